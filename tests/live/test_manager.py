"""Sessions come and go, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref

import pytest

from musetalk.errors import InputError
from musetalk.live.errors import SessionLimitError, UnknownSessionError
from musetalk.live.manager import SessionManager
from musetalk.live.timeline import SessionLimits
from musetalk.live.worker import Worker


def manager_of(fakes, **limits):
    clock, store, engine = fakes.SimClock(), fakes.FakeStore(), fakes.FakeEngine()
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
        manager, clock, store, _ = manager_of(fakes, connect_s=3, idle_s=6, length_s=10)
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
        await clock.advance(2)
        await leaving.aclose()
        for _ in range(9):
            if not busy.closed:
                await busy.push_pcm(fakes.tone(0.1), 16000)
            await clock.advance(1)
        assert closed["alone"] == "nobody came to watch within 3 s"
        assert closed["left"] == "nobody has watched for 3 s"
        assert closed["silent"] == "nothing was said for 6 s"
        assert closed["busy"] == "it has lasted 10 s"
        assert manager.expired == 4 and store.in_use == 0
        await asyncio.gather(*reading)
        await manager.shutdown()

    asyncio.run(run())


def test_an_avatar_that_opens_after_its_client_left_is_given_back(fakes):
    async def run():
        manager, _, store, _engine = manager_of(fakes)
        creating = asyncio.create_task(manager.create("cold"))
        await fakes.settle()
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
        assert store.opened == []
        store.thawed.set()
        await asyncio.wait_for(fakes.given_back(store), 10)
        await manager.shutdown()

    asyncio.run(run())


def test_a_cold_avatar_keeps_no_other_session_waiting(fakes):
    async def run():
        manager, clock, store, _engine = manager_of(fakes)
        session = await manager.create("a")
        creating = [asyncio.create_task(manager.create("cold")) for _ in range(3)]
        await session.push_pcm(fakes.tone(0.5), 16000)
        pictures, packets = await fakes.collect(session, clock, 1)
        assert len(pictures) == 25 and len(packets) == 50 and fakes.pcm_of(packets).any()
        assert len(store.opened) == 1 and not any(task.done() for task in creating)
        store.thawed.set()
        await asyncio.gather(*creating)
        assert len(manager) == 4
        await manager.shutdown()
        assert store.in_use == 0

    asyncio.run(run())


def test_a_session_that_cannot_end_cleanly_is_gone_and_keeps_no_other(fakes, caplog):
    class Recording:
        finished = False

        def put(self, item):
            pass

        async def stop(self):
            raise RuntimeError("boom")

    async def run():
        manager, clock, store, engine = manager_of(fakes, connect_s=3)
        first, second, third, _ = [await manager.create("a") for _ in range(4)]
        first._recording = Recording()
        await manager.close(first.id)
        assert first.id not in manager.ids() and store.in_use == 3
        second.avatar.release = lambda: 1 / 0
        await clock.advance(5)
        assert len(manager) == 0 and manager.expired == 3 and not engine.sessions and third.avatar.released == 1
        last = await manager.create("a")
        last.avatar.release = lambda: 1 / 0
        await manager.shutdown()
        assert len(manager) == 0

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(run())


class Networks:
    """A generator whose answers cost nothing."""

    streams, max_batch = 1, 16

    def generate(self, jobs):
        return [job.avatar.idle_frame(job.source) for job in jobs]

    def encode(self, jobs):
        return [job.mel for job in jobs]


def test_two_hundred_sessions_leave_no_task_thread_or_session(fakes):
    async def run():
        store = fakes.FakeStore()
        with Worker(Networks(), capacity=16) as worker:
            manager = SessionManager(worker, store, fakes.FakeFeatures, SessionLimits(sessions=16))
            seen: list[weakref.ref] = []

            async def visit(number: int) -> None:
                session = await manager.create("a")
                seen.append(weakref.ref(session))
                await session.push_pcm(fakes.tone(0.2), 16000)
                viewer = session.media()
                await viewer.__anext__()
                if number % 3 == 0:
                    session.clear()
                if number % 2:
                    await session.switch_avatar(store.open("b"))
                await manager.close(session.id)

            for start in range(0, 200, 16):
                await asyncio.gather(*(visit(start + place) for place in range(min(16, 200 - start))))
            # The worker's, and those that open and draw.
            assert threading.active_count() <= before + 5
            assert worker.sessions == 0 and worker.waiting == 0
            assert store.in_use == 0 and len(manager) == 0
            await fakes.settle()
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert {name for name in names if name.startswith("live-")} == {"live-sweep"}
            gc.collect()
            # The worker's thread may still have its last batch in hand.
            assert sum(ref() is not None for ref in seen) <= 16
            await manager.shutdown()
        assert len(asyncio.all_tasks()) == 1
        gc.collect()
        assert [ref for ref in seen if ref() is not None] == []

    before = threading.active_count()
    asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name.startswith("musetalk-live-"):
            thread.join(10)
    assert threading.active_count() <= before, "the threads that open and draw end"
