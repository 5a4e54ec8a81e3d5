"""The small messages that steer a session, the same over a data channel, a WebSocket and HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .requests import field
from .security import AVATAR_ID, RefusedError, check_id

if TYPE_CHECKING:
    from .service import LiveService, LiveSession

MESSAGE_BYTES = 16 << 10
TEXT_CHARACTERS = 4000
MOST_MALFORMED = 16


async def obey(service: LiveService, session: LiveSession, message: dict[str, Any]) -> dict[str, Any]:
    """Do what a message asks, and answer with an event.

    ==============================  ====================================================================
    ``{"type": "end"}``             the utterance is complete -> ``ended``
    ``{"type": "clear"}``           stop speaking -> ``cleared`` with ``segment`` and ``played_ms``
    ``{"type": "say", "text"}``     speak a text, where the server has a speech engine -> ``saying``
    ``{"type": "ask", "text"}``     say something to the voice agent -> ``asked``
    ``{"type": "avatar", "id"}``    become another avatar on the next frame -> ``avatar``
    ``{"type": "ping"}``            -> ``pong``
    ==============================  ====================================================================

    Raises RefusedError for any other message.
    """
    kind = field(message, "type", str, limit=32)
    if kind == "ping":
        return {"type": "pong"}
    if kind == "end":
        session.end_of_segment()
        return {"type": "ended"}
    if kind == "clear":
        played = await service.interrupt(session)
        return {"type": "cleared", "segment": played.segment, "played_ms": played.played_ms}
    if kind in ("say", "ask"):
        text = field(message, "text", str, limit=TEXT_CHARACTERS)
        if not text.strip():
            raise RefusedError(400, "malformed", "text is empty")
        await service.send_text(session, text, to_agent=kind == "ask")
        return {"type": "saying" if kind == "say" else "asked"}
    if kind == "avatar":
        avatar = check_id(field(message, "id", str, limit=64), AVATAR_ID)
        await service.switch_avatar(session, avatar)
        return {"type": "avatar", "id": avatar}
    raise RefusedError(400, "malformed", "no such message type")
