"""The openai SDK's own types as a referee: an event conforms when they accept it and know every field of it."""

from __future__ import annotations

from typing import Any

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

_CLIENT: TypeAdapter[Any] = TypeAdapter(RealtimeClientEvent)
_SERVER: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


def check_client_event(event: dict[str, Any]) -> None:
    """Raises ValueError for an event that a client may not send."""
    _check(_CLIENT, event)


def check_server_event(event: dict[str, Any]) -> None:
    """Raises ValueError for an event that a server may not send."""
    _check(_SERVER, event)


def _check(adapter: TypeAdapter[Any], event: dict[str, Any]) -> None:
    model = adapter.validate_python(event, strict=True)
    if model.type != event["type"]:
        raise ValueError(f"the types read {event['type']} as {model.type}")
    unknown = list(_unknown_fields(model, event["type"]))
    if unknown:
        raise ValueError(f"the types do not know {', '.join(unknown)}")


def _unknown_fields(value: Any, where: str) -> Any:
    if isinstance(value, BaseModel):
        yield from (f"{where}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from _unknown_fields(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, f"{where}[{index}]")
