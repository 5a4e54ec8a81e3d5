"""A live server on a loopback port, with sessions that show a counter in place of a person."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from musetalk.errors import InputError
from musetalk.live.errors import LiveError, SessionClosedError, SessionLimitError, UnknownSessionError
from musetalk.live.generator import ModelGenerator
from musetalk.live.server import add_routes, create_app
from musetalk.live.service import LiveService
from musetalk.live.store import AvatarStore
from musetalk.live.timeline import AudioItem, Played, SessionEvent, VideoItem, check_rate
from musetalk.live.viewers import Viewer
from musetalk.live.worker import Worker

SIZE = (64, 64)


class CounterSession:
    """A session whose picture has the brightness of its frame number, and whose sound is what was pushed."""

    def __init__(self, avatar: str = "ada") -> None:
        self.id = secrets.token_urlsafe(12)
        self.fps = Fraction(25)
        self.closed = False
        self.shown = avatar
        self.size = SIZE
        self.pushed: list[bytes] = []
        self.ended = 0
        self.ahead_s = 0.0
        self._queue = bytearray()
        self._rate = 48000
        self._viewers: set[Viewer] = set()
        self._listeners: list[Callable[[SessionEvent], None]] = []
        self._task = asyncio.create_task(self._run())

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def media(self) -> Viewer:
        if len(self._viewers) >= 4:
            raise SessionLimitError("4 viewers watch; no more may")
        viewer = Viewer(self._viewers.discard, 50)
        self._viewers.add(viewer)
        return viewer

    def listen(self, listener: Callable[[SessionEvent], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def push_pcm(self, pcm: bytes, rate: int) -> int:
        if self.closed:
            raise SessionClosedError("the session has ended")
        self._rate = check_rate(rate)
        self.pushed.append(pcm)
        self._queue += pcm
        return 0

    def end_of_segment(self) -> None:
        self.ended += 1

    def clear(self) -> Played:
        self._queue.clear()
        return Played(0, 120)

    async def switch_avatar(self, avatar: Any) -> None:
        self.shown = avatar

    def record(self, path: Path) -> None:
        path.write_bytes(b"a film")
        self._recording = path

    async def stop_recording(self) -> Path:
        if not hasattr(self, "_recording"):
            raise LiveError("the session does not record")
        return self._recording

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._task.cancel()
            for viewer in list(self._viewers):
                viewer.finish()
            for listener in list(self._listeners):
                listener(SessionEvent("closed", 0))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        start, packet, samples = loop.time(), 0, 0
        while True:
            await asyncio.sleep(max(0, start + packet / 50 - loop.time()))
            size = 2 * (self._rate // 50)
            pcm = bytes(self._queue[:size]).ljust(size, b"\0")
            speaking = bool(self._queue)
            del self._queue[:size]
            samples = packet * (self._rate // 50)
            items: list[Any] = [AudioItem(samples, pcm, self._rate)]
            if packet % 2 == 0:
                image = np.full((*self.size, 3), packet // 2 % 200 + 20, np.uint8)
                items.append(VideoItem(packet // 2, image, speaking))
            for viewer in list(self._viewers):
                for item in items:
                    viewer.put(item)
            packet += 1


class CounterSessions:
    """Keeps at most ``most`` of them."""

    def __init__(self, most: int = 3) -> None:
        self._most = most
        self.all: dict[str, CounterSession] = {}

    async def create(self, avatar: str) -> CounterSession:
        if len(self.all) >= self._most:
            raise SessionLimitError(f"all {self._most} sessions are taken")
        session = CounterSession(avatar)
        self.all[session.id] = session
        return session

    def get(self, session: str) -> CounterSession:
        if session not in self.all:
            raise UnknownSessionError("there is no such session")
        return self.all[session]

    def ids(self) -> list[str]:
        return list(self.all)

    async def close(self, session: str) -> None:
        await self.all.pop(session).close()

    async def shutdown(self) -> None:
        for session in list(self.all):
            await self.close(session)


class Live:
    """A running server, a client of it, and what stands behind it."""

    def __init__(self, service: LiveService, server: TestServer, http: ClientSession) -> None:
        self.service = service
        self.server = server
        self.http = http

    def url(self, path: str) -> str:
        return str(self.server.make_url(path))

    async def session(self) -> str:
        async with self.http.post(self.url("/sessions"), json={"avatar": "ada"}) as answer:
            assert answer.status == 201, await answer.text()
            return (await answer.json())["id"]


def _no_models() -> Any:
    raise InputError("there are no models here")


@pytest.fixture
def live(tmp_path: Path) -> Callable[..., Any]:
    """``async with live(policy=...) as server``: a :class:`Live`; nothing is left running after it."""

    @asynccontextmanager
    async def start(app: web.Application | None = None, **options: Any) -> AsyncIterator[Live]:
        before = asyncio.all_tasks()
        worker = Worker(ModelGenerator(_no_models), capacity=8)
        worker.start()
        store = AvatarStore(tmp_path / "avatars", _no_models, worker)
        sessions = options.pop("sessions", None) or CounterSessions()
        service = LiveService(sessions, store, worker=worker, **options)
        if app is not None:
            add_routes(app, service)
        server = TestServer(app or create_app(service))
        await server.start_server()
        try:
            async with ClientSession() as http:
                yield Live(service, server, http)
        finally:
            await server.close()
            store.close()
            worker.close()
            await asyncio.sleep(0.05)
            left = {task for task in asyncio.all_tasks() - before if not task.done()}
            assert not left, f"tasks left running: {left}"

    return start
