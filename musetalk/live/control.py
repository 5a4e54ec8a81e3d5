"""The small messages that steer a session, the same over a data channel, a WebSocket and HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .requests import field, parse_object
from .security import AVATAR_ID, RateLimiter, RefusedError, check_id

if TYPE_CHECKING:
    from .service import LiveService, LiveSession

MESSAGE_BYTES = 16 << 10
TEXT_CHARACTERS = 4000
MOST_REFUSED = 16
_REFUSED_PER_SECOND = 0.1
_COMMANDS_PER_SECOND, _COMMANDS_AT_ONCE = 25.0, 100
_WAITING = 32


async def obey(service: LiveService, session: LiveSession, message: dict[str, Any]) -> dict[str, Any]:
    """Do what a message asks, and answer with an event.

    ==============================  ====================================================================
    ``{"type": "end"}``             the utterance is complete -> ``ended``
    ``{"type": "clear"}``           stop speaking -> ``cleared`` with ``segment`` and ``played_ms``
    ``{"type": "say", "text"}``     speak a text, where the server has a speech engine -> ``saying``
    ``{"type": "ask", "text"}``     say something to the voice agent -> ``asked``
    ``{"type": "turn_end"}``        the viewer has said all, where the agent does not hear it -> ``turn_ended``
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
    if kind == "turn_end":
        await service.finish_turn(session)
        return {"type": "turn_ended"}
    if kind == "avatar":
        avatar = check_id(field(message, "id", str, limit=64), AVATAR_ID)
        await service.switch_avatar(session, avatar)
        return {"type": "avatar", "id": avatar}
    raise RefusedError(400, "malformed", "no such message type")


class CommandLane:
    """The commands of one connection, in order, and no faster than a server can take them from everybody.

    carry_out: does what a message asks and returns the event that answers it. tell: sends an event; never waits. fail:
    puts an error into words, as (status, code, message). A ``clear`` overtakes the commands that wait, or are being
    carried out: who interrupts does not wait for what is interrupted.
    """

    def __init__(
        self,
        carry_out: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
        tell: Callable[[dict[str, Any]], None],
        fail: Callable[[Exception], tuple[int, str, str]],
    ) -> None:
        self._carry_out = carry_out
        self._tell = tell
        self._fail = fail
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)
        self._clears: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)
        self._rate = RateLimiter(_COMMANDS_PER_SECOND, _COMMANDS_AT_ONCE)
        self._refusals = RateLimiter(_REFUSED_PER_SECOND, MOST_REFUSED)
        self.expelled = asyncio.Event()
        """Set once too many messages were refused: the connection is to end."""

    def read(self, text: str | bytes) -> dict[str, Any]:
        """A message as an object. Raises RefusedError for one that is none, or comes too fast."""
        if not self._rate.allows(""):
            raise RefusedError(429, "too_many_requests", "too many messages; wait a second")
        if not isinstance(text, str) or len(text) > MESSAGE_BYTES:
            raise RefusedError(400, "malformed", f"send JSON text of at most {MESSAGE_BYTES} characters")
        return parse_object(text)

    def put(self, message: dict[str, Any]) -> None:
        """Have a message carried out in its turn. Raises RefusedError when too many wait."""
        try:
            (self._clears if message.get("type") == "clear" else self._waiting).put_nowait(message)
        except asyncio.QueueFull:
            raise RefusedError(429, "too_many_requests", f"{_WAITING} messages wait; wait for answers") from None

    def refuse(self, error: Exception) -> None:
        """Tell an error. Every one counts."""
        _, code, message = self._fail(error)
        self._tell({"type": "error", "code": code, "message": message})
        if not self._refusals.allows(""):
            self.expelled.set()

    async def run(self) -> None:
        """Carry out what is put, until cancelled."""
        works = [asyncio.ensure_future(self._follow(queue)) for queue in (self._waiting, self._clears)]
        try:
            await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()

    async def _follow(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            message = await queue.get()
            try:
                self._tell(await self._carry_out(message))
            except Exception as error:
                self.refuse(error)
