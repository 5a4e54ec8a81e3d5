"""All sessions of a server: made, found, limited and ended."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from fractions import Fraction
from typing import Protocol

from .clock import Clock, MonotonicClock
from .errors import SessionLimitError, UnknownSessionError
from .lips import Engine
from .live_avatar import LiveAvatar
from .opening import open_avatar
from .session import Session
from .streaming import FeatureStream
from .timeline import FPS, SessionEvent, SessionLimits

logger = logging.getLogger(__name__)

SWEEP_S = 1.0
_DRAWING_THREADS = _OPENING_THREADS = 2


class Avatars(Protocol):
    """The part of an avatar store that sessions need."""

    def open(self, name: str) -> LiveAvatar: ...


class SessionManager:
    """Keeps at most ``limits.sessions`` sessions, and ends those that nobody uses or that have lasted too long.

    All from one event loop. worker: computes for all of them. store: of the avatars. make_features: a new feature
    stream, for each segment. expired: sessions ended by a limit so far.
    """

    def __init__(
        self,
        worker: Engine,
        store: Avatars,
        make_features: Callable[[], FeatureStream],
        limits: SessionLimits | None = None,
        *,
        fps: Fraction = FPS,
        clock: Clock | None = None,
        executor: Executor | None = None,
    ) -> None:
        """executor: where pictures are drawn and features computed; None keeps threads of its own until `shutdown`."""
        self.limits = limits or SessionLimits()
        self.expired = 0
        self._worker = worker
        self._store = store
        self._make_features = make_features
        self._fps = fps
        self._clock = clock or MonotonicClock()
        self._own_executor = ThreadPoolExecutor(_DRAWING_THREADS, "musetalk-live-draw") if executor is None else None
        self._executor = executor or self._own_executor
        # Reading an avatar from disk takes seconds, for which the pictures of the others must not wait.
        self._opener = ThreadPoolExecutor(_OPENING_THREADS, "musetalk-live-open")
        self._sessions: dict[str, Session] = {}
        # Places are taken before the first await, so that two who come at once cannot share the last one.
        self._coming = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._shut = False

    async def create(self, avatar: str) -> Session:
        """A session that shows an avatar and has begun.

        Raises SessionLimitError when there is no room or the server ends, and what the store raises for the avatar.
        """
        if self._shut:
            raise SessionLimitError("the server is ending; no session can be created")
        if len(self._sessions) + self._coming >= self.limits.sessions:
            raise SessionLimitError(f"all {self.limits.sessions} sessions are taken; try again when one has ended")
        self._coming += 1
        try:
            return self._begin(await open_avatar(self._store.open, avatar, self._opener))
        finally:
            self._coming -= 1

    def get(self, session_id: str) -> Session:
        """Raises UnknownSessionError for one that is not, or has ended."""
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSessionError(f"there is no session {session_id[:64]!r}; it may have ended, create another")
        return session

    def ids(self) -> list[str]:
        """Of the sessions that are, the oldest first."""
        return list(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    async def close(self, session_id: str, reason: str = "") -> None:
        """End a session. Raises UnknownSessionError."""
        await self.get(session_id).close(reason)

    async def shutdown(self) -> None:
        """End all sessions and free everything; no other can be created. May be called again."""
        self._shut = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        try:
            await _close_all(dict.fromkeys(self._sessions.values(), "the server ended"))
        finally:
            self._opener.shutdown(wait=False)
            if self._own_executor is not None:
                self._own_executor.shutdown(wait=False)

    def _begin(self, avatar: LiveAvatar) -> Session:
        try:
            if self._shut:
                raise SessionLimitError("the server is ending; no session can be created")
            session = Session(
                secrets.token_urlsafe(12),
                self._worker,
                avatar,
                self._make_features,
                fps=self._fps,
                limits=self.limits,
                clock=self._clock,
                executor=self._executor,
            )
            session.start()
        except BaseException:
            avatar.release()
            raise
        self._sessions[session.id] = session
        session.listen(lambda event: self._heard(session.id, event))
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="live-sweep")
        return session

    def _heard(self, session_id: str, event: SessionEvent) -> None:
        if event.kind == "closed":
            self._sessions.pop(session_id, None)
            logger.info("session %s ended: %s", session_id, event.detail or "closed")

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.now() + SWEEP_S)
            # In a method of its own, so that no session stays alive as a variable while this sleeps.
            await self._end_expired()

    async def _end_expired(self) -> None:
        reasons = {session: session.expiry() for session in self._sessions.values()}
        expired = {session: reason for session, reason in reasons.items() if reason is not None}
        self.expired += len(expired)
        await _close_all(expired)


async def _close_all(reasons: dict[Session, str]) -> None:
    """End sessions at the same time, each for its reason; one that cannot be ended does not keep the others."""
    results = await asyncio.gather(
        *(session.close(reason) for session, reason in reasons.items()), return_exceptions=True
    )
    for session, result in zip(reasons, results, strict=True):
        if isinstance(result, Exception):
            logger.error("session %s could not be ended cleanly", session.id, exc_info=result)
