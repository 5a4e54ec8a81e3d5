"""What a request may carry: bodies are read with a limit and a deadline, JSON only as a small flat object."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from aiohttp import web

from .security import RefusedError

JSON_BYTES = 64 << 10
_CHUNK = 64 << 10
_READ_SECONDS = 30.0

T = TypeVar("T")


async def body_chunks(request: web.Request, limit: int, seconds: float = _READ_SECONDS) -> AsyncIterator[bytes]:
    """The body piece by piece. Raises RefusedError beyond ``limit`` bytes (413) or ``seconds`` altogether (408)."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    total = 0
    while True:
        try:
            chunk = await asyncio.wait_for(request.content.read(_CHUNK), deadline - loop.time())
        except asyncio.TimeoutError:
            raise RefusedError(408, "too_slow", f"the body did not arrive within {seconds:g} s") from None
        if not chunk:
            return
        total += len(chunk)
        if total > limit:
            raise too_large(limit)
        yield chunk


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes."""
    return b"".join([chunk async for chunk in body_chunks(request, limit)])


def too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too_large", f"the body is larger than the {limit} bytes that are allowed here")


async def read_json(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object.

    Any other content type is refused (415): a page of another site cannot send application/json without being asked.
    """
    body = await read_body(request, JSON_BYTES)
    if not body:
        return {}
    if request.content_type != "application/json":
        raise RefusedError(415, "unsupported_media_type", "send application/json")
    return parse_object(body)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises RefusedError (400) for anything else, however deep or odd."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "malformed", "this is not JSON") from error
    if not isinstance(value, dict):
        raise RefusedError(400, "malformed", "this is not a JSON object")
    return value


def field(message: dict[str, Any], name: str, kind: type[T], default: T | None = None, *, limit: int = 4096) -> T:
    """One value of a message, of the type it must have; text of at most ``limit`` characters.

    Raises RefusedError (400) naming the field; without a default it must be there.
    """
    value = message.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RefusedError(400, "malformed", f"{name} must be {kind.__name__}")
    if isinstance(value, str) and len(value) > limit:
        raise RefusedError(413, "too_large", f"{name} is longer than {limit} characters")
    return value


def integer(text: str | None, name: str, default: int | None = None) -> int:
    """A whole number from a query. Raises RefusedError (400) naming it."""
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RefusedError(400, "malformed", f"{name} must be a whole number")
    return int(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
