"""The OpenAI Realtime protocol in JSON: what is sent, and how what arrives is read.

GA names are sent; the names of the beta, which older self-hosted servers still use, are understood.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError
from .base import AgentError
from .endpoint import Endpoint

Event = dict[str, Any]

PCM_RATE = 24000
_BETA_NAMES = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
}
_TURN_OPTIONS = {
    "server_vad": {"threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms"},
    "semantic_vad": {"eagerness"},
}
_ALL_TURN_OPTIONS = {"type", "create_response", "interrupt_response"}
_OF_SERVERS: Mapping[str, Any] = {"create_response": True, "interrupt_response": True}
_MANUAL = "manual"


def turn_detection_of(turns: str) -> dict[str, Any] | None:
    """Who says that a turn is over, in a word, as the protocol has it.

    turns: ``server_vad`` or ``semantic_vad``, with the server's defaults, or ``manual``: None. Raises InputError.
    """
    known = (*_TURN_OPTIONS, _MANUAL)
    if turns not in known:
        raise InputError(f"turns {turns[:40]!r}: give {', '.join(known)}")
    return None if turns == _MANUAL else {"type": turns, **_OF_SERVERS}


@dataclass(frozen=True)
class RealtimeConfig:
    """A conversation with an OpenAI-Realtime-compatible server.

    instructions, voice: the server's own where empty. turn_detection: as the protocol has it: ``server_vad`` or
    ``semantic_vad`` with their options (see `turn_detection_of`); None: the viewer says when a turn is over
    (``finish_turn``).
    transcription_model: writes down what the viewer says; empty for none. output_rate: Hz of the speech of a server
    that sends other than the protocol's 24 kHz and does not say so.

    Raises InputError for what the protocol has not.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    model: str = "gpt-realtime"
    instructions: str = ""
    voice: str = ""
    speed: float | None = None
    turn_detection: Mapping[str, Any] | None = field(default_factory=lambda: turn_detection_of("server_vad"))
    transcription_model: str = ""
    output_rate: int = PCM_RATE

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise InputError("the voice agent's model has no name; give one, such as gpt-realtime")
        if self.turn_detection is not None:
            _check_turns(self.turn_detection)
        if not 8000 <= self.output_rate <= 96000:
            raise InputError(f"speech at {self.output_rate} Hz: give 8000..96000")
        if self.speed is not None and not 0.25 <= self.speed <= 1.5:
            raise InputError(f"speech speed {self.speed}: give 0.25..1.5")

    @property
    def interrupts(self) -> bool:
        """Whether the viewer's voice alone cuts an answer off."""
        return self.turn_detection is not None and bool(self.turn_detection.get("interrupt_response", True))

    def session_update(self) -> Event:
        """The first event of a connection."""
        pcm = {"type": "audio/pcm", "rate": PCM_RATE}
        turns = None if self.turn_detection is None else dict(self.turn_detection)
        heard: Event = {"format": pcm, "turn_detection": turns}
        said: Event = {"format": pcm}
        if self.transcription_model:
            heard["transcription"] = {"model": self.transcription_model}
        if self.voice:
            said["voice"] = self.voice
        if self.speed is not None:
            said["speed"] = self.speed
        session: Event = {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": heard, "output": said}}
        if self.instructions:
            session["instructions"] = self.instructions
        return {"type": "session.update", "session": session}


def _check_turns(turns: Mapping[str, Any]) -> None:
    kind = turns.get("type")
    if kind not in _TURN_OPTIONS:
        raise InputError(f"turn detection {kind!r}: give server_vad, semantic_vad, or None")
    known = _TURN_OPTIONS[kind] | _ALL_TURN_OPTIONS
    unknown = sorted(set(turns) - known)
    if unknown:
        raise InputError(f"{kind} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")


def append_audio(pcm: bytes) -> Event:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode("ascii")}


def commit_audio() -> Event:
    return {"type": "input_audio_buffer.commit"}


def create_response() -> Event:
    return {"type": "response.create"}


def cancel_response(response_id: str) -> Event:
    """Cancel one response; the one under way where the server gave it no id."""
    return {"type": "response.cancel", **({"response_id": response_id} if response_id else {})}


def truncate_item(item_id: str, content_index: int, audio_end_ms: int) -> Event:
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }


def user_message(text: str) -> Event:
    content = [{"type": "input_text", "text": text}]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


def read_event(message: str) -> Event:
    """One message of a server as an event under its GA name. Raises AgentError for anything else."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        raise AgentError(f"the agent sent {len(message)} characters that are no JSON") from None
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str):
        raise AgentError("the agent sent a message without a type")
    event["type"] = _BETA_NAMES.get(kind, kind)
    return event


def text_of(event: Mapping[str, Any], name: str) -> str:
    """A text field; empty where it is absent. Raises AgentError for another type."""
    value = event.get(name, "")
    if not isinstance(value, str):
        raise AgentError(f"the agent's {event.get('type')} has {type(value).__name__} as {name}, not a text")
    return value


def table_of(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object field; empty where it is absent or null. Raises AgentError for another type."""
    value = event.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise AgentError(f"the agent's {event.get('type')} has {type(value).__name__} as {name}, not an object")
    return value


def audio_of(event: Mapping[str, Any]) -> bytes:
    """The sound of a delta. Raises AgentError when it is no base64."""
    try:
        return base64.b64decode(text_of(event, "delta"), validate=True)
    except (binascii.Error, ValueError):
        raise AgentError("the agent sent sound that is no base64") from None


def output_rate_of(session: Mapping[str, Any]) -> int | None:
    """Hz of the speech that a session announces, None where it does not say.

    Raises AgentError for formats other than PCM.
    """
    announced = table_of(table_of(table_of(session, "audio"), "output"), "format")
    name = announced.get("type") or session.get("output_audio_format")
    if name not in (None, "audio/pcm", "pcm16"):
        raise AgentError(f"the agent speaks {str(name)[:40]!r}; set it to send audio/pcm")
    rate = announced.get("rate")
    return rate if isinstance(rate, int) and rate > 0 else None
