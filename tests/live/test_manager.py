"""Sessions come and go, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from musetalk.errors import InputError
from musetalk.live.errors import SessionLimitError, UnknownSessionError
from musetalk.live.manager import SessionManager
from musetalk.live.timeline import SessionLimits
from musetalk.live.worker import Worker


class Store:
    """Opens avatars and counts who holds one."""

    def __init__(self, make) -> None:
        self.opened = []
        self._make = make

    def open(self, name: str):
        if name == "missing":
            raise InputError("no such avatar")
        self.opened.append(self._make())
        return self.opened[-1]

    @property
    def in_use(self) -> int:
        return len(self.opened) - sum(avatar.released for avatar in self.opened)


def manager_of(fakes, **limits):
    clock, store, engine = fakes.SimClock(), Store(fakes.FakeAvatar), fakes.FakeEngine()
    manager = SessionManager(
        engine, store, fakes.FakeFeatures, SessionLimits(**limits), clock=clock, executor=fakes.Inline()
    )
    return manager, clock, store, engine


def test_sessions_are_found_limited_and_freed(fakes):
    async def run():
        manager, _, store, engine = manager_of(fakes, sessions=2)
        first, second = await asyncio.gather(manager.create("a"), manager.create("a"))
        assert manager.get(first.id) is first and manager.ids() == [first.id, second.id]
        with pytest.raises(SessionLimitError, match="all 2 sessions"):
            await manager.create("a")
        await manager.close(first.id)
        with pytest.raises(UnknownSessionError, match="create another"):
            manager.get(first.id)
        with pytest.raises(InputError):
            await manager.create("missing")
        third = await manager.create("a")
        await manager.shutdown()
        await manager.shutdown()
        assert third.closed and len(manager) == 0 and store.in_use == 0 and not engine.sessions
        with pytest.raises(SessionLimitError, match="ending"):
            await manager.create("a")

    asyncio.run(run())


def test_those_who_come_at_once_cannot_share_the_last_place(fakes):
    async def run():
        manager, _, store, _engine = manager_of(fakes, sessions=3)
        results = await asyncio.gather(*(manager.create("a") for _ in range(10)), return_exceptions=True)
        assert sum(isinstance(result, SessionLimitError) for result in results) == 7
        await manager.shutdown()
        assert store.in_use == 0

    asyncio.run(run())


def test_a_worker_without_room_gives_the_avatar_back(fakes):
    async def run():
        manager, _, store, engine = manager_of(fakes)

        def full(session_id: str) -> None:
            raise SessionLimitError("all 0 sessions are taken")

        engine.register = full
        with pytest.raises(SessionLimitError):
            await manager.create("a")
        assert store.in_use == 0 and len(manager) == 0
        await manager.shutdown()

    asyncio.run(run())


def test_who_never_connects_who_is_idle_and_who_stays_too_long_is_ended(fakes):
    async def run():
        manager, clock, store, _ = manager_of(fakes, connect_s=30, idle_s=60, length_s=100)
        closed = {}

        async def begin(name: str, *, watched: bool):
            session = await manager.create("a")
            session.listen(lambda event: closed.__setitem__(name, event.detail) if event.kind == "closed" else None)
            return session, session.media() if watched else None

        await begin("alone", watched=False)
        _, viewer = await begin("silent", watched=True)
        busy, kept = await begin("busy", watched=True)
        _, leaving = await begin("left", watched=True)

        async def drain(viewer):
            async for _ in viewer:
                pass

        reading = [asyncio.create_task(drain(one)) for one in (viewer, kept)]
        await clock.advance(20)
        await leaving.aclose()
        for _ in range(9):
            if not busy.closed:
                await busy.push_pcm(fakes.tone(0.1), 16000)
            await clock.advance(10)
        assert closed["alone"] == "nobody came to watch within 30 s"
        assert closed["left"] == "nobody has watched for 30 s"
        assert closed["silent"] == "nothing was said for 60 s"
        assert closed["busy"] == "it has lasted 100 s"
        assert manager.expired == 4 and store.in_use == 0
        await asyncio.gather(*reading)
        await manager.shutdown()

    asyncio.run(run())


def test_an_avatar_that_opens_after_its_client_left_is_given_back(fakes):
    async def run():
        manager, _, store, _engine = manager_of(fakes)
        creating = asyncio.create_task(manager.create("a"))
        await asyncio.sleep(0)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        await fakes.settle()
        assert len(store.opened) == 1 and store.in_use == 0
        await manager.shutdown()

    asyncio.run(run())


class Networks:
    """A generator whose answers cost nothing."""

    def generate(self, jobs):
        return [job.avatar.idle_frame(job.source) for job in jobs]

    def encode(self, mels):
        return list(mels)


def test_two_hundred_sessions_leave_no_task_thread_or_session(fakes):
    async def run():
        store = Store(fakes.FakeAvatar)
        with Worker(Networks(), capacity=4) as worker:
            manager = SessionManager(worker, store, fakes.FakeFeatures)
            seen: list[weakref.ref] = []

            async def visit(number: int) -> None:
                session = await manager.create("a")
                seen.append(weakref.ref(session))
                await session.push_pcm(fakes.tone(0.5), 16000)
                viewer = session.media()
                await viewer.__anext__()
                if number % 3 == 0:
                    session.clear()
                if number % 2:
                    await session.switch_avatar(store.open("b"))
                await manager.close(session.id)

            for start in range(0, 200, 4):
                await asyncio.gather(*(visit(start + place) for place in range(4)))
                if start == 20:
                    threads = threading.active_count()
            assert threading.active_count() == threads
            assert worker.sessions == 0 and worker.waiting == 0
            assert store.in_use == 0 and len(manager) == 0
            await asyncio.sleep(0.05)
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert {name for name in names if name.startswith("live-")} == {"live-sweep"}
            gc.collect()
            # The worker's thread may still have its last batch in hand.
            assert sum(ref() is not None for ref in seen) <= 4
            await manager.shutdown()
        assert len(asyncio.all_tasks()) == 1
        gc.collect()
        assert [ref for ref in seen if ref() is not None] == []

    before = threading.active_count()
    asyncio.run(run())
    assert threading.active_count() <= before + 1, "the drawing threads end"
