"""Everything a live server holds, and what its routes may do with it: sessions, avatars, agents, viewers."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .agents.base import AgentAdapter, AgentEvent, AvatarSink, Listener
from .errors import SessionClosedError, SessionLimitError
from .gate import Gate
from .opening import open_avatar
from .security import RefusedError, SecurityPolicy
from .timeline import Played, SessionEvent
from .viewers import Viewer
from .webrtc import MediaSettings, Peer

if TYPE_CHECKING:
    from .live_avatar import LiveAvatar

log = logging.getLogger(__name__)

AgentFactory: TypeAlias = Callable[[AvatarSink, Listener], AgentAdapter]
AgentRole: TypeAlias = Literal["agent", "speech"]
Tell: TypeAlias = Callable[[dict[str, Any]], None]

# Requests with sound of one session that may wait for room in it.
_MOST_PUSHES = 2
_STORE_SECONDS = 10.0


class LiveSession(AvatarSink, Protocol):
    """What the server asks of a session; ``musetalk.live.session.Session`` is one."""

    @property
    def id(self) -> str: ...

    @property
    def fps(self) -> Fraction: ...

    @property
    def closed(self) -> bool: ...

    @property
    def viewers(self) -> int: ...

    @property
    def ahead_s(self) -> float: ...

    def media(self) -> Viewer: ...

    def listen(self, listener: Callable[[SessionEvent], None]) -> Callable[[], None]: ...

    async def switch_avatar(self, avatar: LiveAvatar) -> None: ...

    def record(self, path: Path) -> None: ...

    async def stop_recording(self) -> Path: ...


class Sessions(Protocol):
    """What the server asks of the keeper of sessions; ``musetalk.live.manager.SessionManager`` is one."""

    async def create(self, avatar: str) -> LiveSession: ...

    def get(self, session: str) -> LiveSession: ...

    def ids(self) -> list[str]: ...

    async def close(self, session: str) -> None: ...

    async def shutdown(self) -> None: ...


@dataclass(frozen=True)
class ServerLimits:
    """What requests may carry. upload_bytes: of footage. sound_bytes: of one piece of sound. recordings_bytes: of all
    recordings kept. viewers: WebRTC and WebSocket viewers of the whole server."""

    upload_bytes: int = 512 << 20
    sound_bytes: int = 8 << 20
    recordings_bytes: int = 4 << 30
    viewers: int = 32


@dataclass
class _Company:
    """Who is around one session."""

    peers: dict[str, Peer] = field(default_factory=dict)
    listeners: set[Tell] = field(default_factory=set)
    agents: dict[AgentRole, AgentAdapter] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: bool = False
    microphone: str | None = None
    pushes: int = 0


class LiveService:
    """What the routes work on.

    sessions, store: see :class:`Sessions` and ``musetalk.live.store.AvatarStore``. agents: how to make the voice agent
    (``"agent"``) and the speech engine (``"speech"``) of a session, where the server has them. recordings: folder for
    recordings; None allows none. hidden: texts that no answer may show, besides the token and the folders.
    """

    def __init__(
        self,
        sessions: Sessions,
        store: Any,
        policy: SecurityPolicy | None = None,
        *,
        limits: ServerLimits | None = None,
        media: MediaSettings | None = None,
        agents: Mapping[AgentRole, AgentFactory] | None = None,
        recordings: Path | None = None,
        worker: Any = None,
        hidden: tuple[str, ...] = (),
    ) -> None:
        self.sessions = sessions
        self.store = store
        self.limits = limits or ServerLimits()
        self.media = media or MediaSettings()
        self.recordings = recordings
        self.worker = worker
        # Whole paths: a folder called "rec" must not strike that out of every word.
        roots = [Path(root).absolute() for root in (getattr(store, "root", None), recordings) if root is not None]
        folders = {str(folder) for root in roots for folder in (root, root.resolve()) if folder != Path(folder.anchor)}
        self.gate = Gate(policy or SecurityPolicy(), hidden=(*folders, *hidden))
        self.executor = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), thread_name_prefix="musetalk-encode")
        self.started = time.monotonic()
        self.accepting = True
        self._agents = dict(agents or {})
        self._company: dict[str, _Company] = {}
        self._dismissals: set[asyncio.Task[None]] = set()
        self._sockets = 0

    @property
    def viewers(self) -> int:
        """Who watches now, over WebRTC and WebSocket."""
        return self._sockets + sum(len(company.peers) for company in self._company.values())

    @property
    def is_ready(self) -> bool:
        """Whether new sessions are taken and the networks work."""
        return self.accepting and (self.worker is None or self.worker.healthy)

    def has_agent(self, role: AgentRole) -> bool:
        return role in self._agents

    async def create_session(self, avatar: str) -> LiveSession:
        """A new session of an avatar. Raises SessionLimitError when there is no room."""
        if not self.accepting:
            raise SessionLimitError("the server is shutting down; try another")
        session = await self.sessions.create(avatar)
        company = self._company[session.id] = _Company()
        session.listen(lambda event: self._session_event(session.id, company, event))
        return session

    def session(self, session: str) -> LiveSession:
        """Raises UnknownSessionError."""
        return self.sessions.get(session)

    async def close_session(self, session: str) -> None:
        """End a session with all its viewers and agents. Raises UnknownSessionError."""
        self.sessions.get(session)
        await self._dismiss(session)
        await self.sessions.close(session)

    async def open_peer(self, session: LiveSession, offer: str, *, microphone: str | None) -> tuple[Peer, str]:
        """A WebRTC viewer and its SDP answer. microphone: None, ``"agent"`` or ``"avatar"``: who gets the viewer's."""
        self._check_place(session, microphone)
        if microphone == "agent":
            await self._agent(session, "agent")
            self._check_place(session, microphone)
        company = self._of(session)
        peer = Peer(
            session,
            self.media,
            self.executor,
            obey=self.obey,
            fail=self.gate.describe,
            hear={"agent": self.hear, "avatar": _parrot}.get(microphone or ""),
            heard=session.end_of_segment if microphone == "avatar" else None,
            on_close=lambda peer: self._peer_left(session.id, peer),
        )
        company.peers[peer.id] = peer
        company.microphone = peer.id if microphone is not None else company.microphone
        company.listeners.add(peer.send)
        return peer, await peer.answer(offer)

    async def close_peer(self, session: str, peer: str) -> None:
        """Let one WebRTC viewer go. Raises RefusedError (404) where there is none of that id."""
        company = self._company.get(session)
        if company is None or peer not in company.peers:
            raise RefusedError(404, "not_found", "there is no such viewer")
        await company.peers[peer].close()

    def check_viewers(self) -> None:
        """Raises SessionLimitError when there is no room for another viewer."""
        if self.viewers >= self.limits.viewers:
            raise SessionLimitError(f"all {self.limits.viewers} places for viewers are taken; try again later")

    def join(self, session: LiveSession, tell: Tell) -> Callable[[], None]:
        """A WebSocket viewer, who is told the session's events; call what is returned when it leaves."""
        company = self._of(session)
        company.listeners.add(tell)
        self._sockets += 1

        def leave() -> None:
            company.listeners.discard(tell)
            self._sockets -= 1

        return leave

    async def obey(self, session: LiveSession, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out a control message; see :func:`musetalk.live.control.obey`."""
        from .control import obey

        return await obey(self, session, message)

    async def interrupt(self, session: LiveSession) -> Played:
        """Stop speaking now, whoever speaks: first the avatar, then those whose words it says."""
        played = session.clear()
        agents = list(self._of(session).agents.values())
        for result in await asyncio.gather(*(agent.interrupt() for agent in agents), return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("interrupting an agent: %s", self.gate.redact(repr(result)))
        return played

    async def push(self, session: LiveSession, pcm: bytes, rate: int) -> int:
        """Sound from HTTP; the segment it went to, -1 when it was dropped. Raises RefusedError (429) for too many."""
        company = self._of(session)
        if company.pushes >= _MOST_PUSHES:
            raise RefusedError(429, "too_much_audio", f"{_MOST_PUSHES} requests with sound wait already; send in turn")
        company.pushes += 1
        try:
            return await session.push_pcm(pcm, rate)
        finally:
            company.pushes -= 1

    async def hear(self, session: LiveSession, pcm: bytes, rate: int) -> None:
        """A viewer's microphone, for the voice agent."""
        agent = self._of(session).agents.get("agent")
        if agent is not None:
            await agent.hear(pcm, rate)

    async def send_text(self, session: LiveSession, text: str, *, to_agent: bool) -> None:
        """Speak a text, or say it to the voice agent. Raises RefusedError (409) where the server has no such thing."""
        agent = await self._agent(session, "agent" if to_agent else "speech")
        await agent.send_text(text)

    async def finish_turn(self, session: LiveSession) -> None:
        """The viewer has said what there is to say, to a voice agent whose turns are manual.

        Raises RefusedError (409) where the server has no agent, InputError where that hears itself when a turn is over.
        """
        agent = await self._agent(session, "agent")
        await agent.finish_turn()

    async def switch_avatar(self, session: LiveSession, avatar: str) -> None:
        """Become another avatar on the next frame. Raises RefusedError (404) for one that is not there."""
        await session.switch_avatar(await open_avatar(self.store.open, avatar))

    async def close(self) -> None:
        """Let everybody go: viewers, agents, sessions, then the store's jobs and the worker. May be called again."""
        self.accepting = False
        await asyncio.gather(*(self._dismiss(session) for session in list(self._company)))
        await self.sessions.shutdown()
        await asyncio.gather(*self._dismissals)
        # A preparation stops at its next step, which may be minutes away; nobody waits for that.
        closing = threading.Thread(target=self.store.close, name="musetalk-live-closing", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _STORE_SECONDS)
        if self.worker is not None:
            await asyncio.to_thread(self.worker.close)
        self.executor.shutdown(wait=False, cancel_futures=True)

    async def _agent(self, session: LiveSession, role: AgentRole) -> AgentAdapter:
        company = self._of(session)
        if role not in self._agents:
            what = "voice agent; see --agent-url" if role == "agent" else "speech engine; see --speech-url"
            raise RefusedError(409, f"no_{role}", f"this server has no {what}")

        def listener(event: AgentEvent) -> None:
            told = {"type": "agent", **event.to_dict()}
            if event.kind in ("error", "closed", "reconnecting"):
                told["text"] = self.gate.redact_agent(event.text)
            self._tell(company, told)

        async with company.lock:
            if company.closed:
                raise _closed(session)
            known = company.agents.get(role)
            if known is not None and not known.closed:
                return known
            if known is not None:  # its connection is gone for good
                await known.close()
            # Known before it starts, so that a session that ends meanwhile closes it.
            agent = company.agents[role] = self._agents[role](session, listener)
            try:
                await agent.start()
                if company.closed:
                    raise _closed(session)
            except BaseException:
                company.agents.pop(role, None)
                await agent.close()
                raise
            return agent

    def _check_place(self, session: LiveSession, microphone: str | None) -> None:
        """Raises what :meth:`check_viewers` does, and RefusedError (409) for a second microphone of one session."""
        self.check_viewers()
        if microphone is not None and self._of(session).microphone is not None:
            raise RefusedError(409, "microphone_taken", "another viewer's microphone is on; it has to leave first")

    def _tell(self, company: _Company, event: dict[str, Any]) -> None:
        for tell in list(company.listeners):
            tell(event)

    def _of(self, session: LiveSession) -> _Company:
        """Raises SessionClosedError for one that has ended."""
        company = self._company.get(session.id)
        if company is None:
            raise _closed(session)
        return company

    def _session_event(self, session: str, company: _Company, event: SessionEvent) -> None:
        self._tell(company, {"type": "session", **asdict(event)})
        if event.kind == "closed" and session in self._company:
            task = asyncio.get_running_loop().create_task(self._dismiss(session))
            self._dismissals.add(task)
            task.add_done_callback(self._dismissals.discard)

    def _peer_left(self, session: str, peer: Peer) -> None:
        company = self._company.get(session)
        if company is not None:
            company.peers.pop(peer.id, None)
            company.listeners.discard(peer.send)
            if company.microphone == peer.id:
                company.microphone = None

    async def _dismiss(self, session: str) -> None:
        company = self._company.pop(session, None)
        if company is None:
            return
        company.closed = True
        closing = [peer.close() for peer in list(company.peers.values())]
        closing += [agent.close() for agent in list(company.agents.values())]
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("closing a session: %s", self.gate.redact(repr(result)))


def _closed(session: LiveSession) -> SessionClosedError:
    return SessionClosedError(f"session {session.id} has ended; create another")


async def _parrot(session: LiveSession, pcm: bytes, rate: int) -> None:
    """The avatar says what its viewer says."""
    await session.push_pcm(pcm, rate)
