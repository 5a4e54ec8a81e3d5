"""Sessions that talk, are interrupted, watched by somebody who does not look, and recorded, over and over."""

from __future__ import annotations

import asyncio

import pytest

from musetalk.live.errors import LiveError
from musetalk.live.manager import SessionManager

from .leftovers import Held

ROUNDS = 60
WARM_UP = 15
_MEMORY_PER_ROUND = 32 << 10


class Avatars:
    """A store of one, opened anew each time."""

    def __init__(self, make) -> None:
        self.make, self.all = make, []

    def open(self, name: str):
        self.all.append(self.make())
        return self.all[-1]


def test_a_long_session_holds_no_more_than_a_short_one(fakes, tmp_path):
    async def talk(session, clock) -> None:
        stalled = session.media()
        session.record(tmp_path / "film.mp4")
        await session.push_pcm(fakes.tone(0.6, 24000), 24000)
        session.end_of_segment()
        await clock.advance(1)
        await session.push_pcm(fakes.tone(2, 16000), 16000)
        await clock.advance(0.5)
        assert session.clear().played_ms > 0
        (await session.stop_recording()).unlink()
        with pytest.raises(LiveError, match="has not read"):
            await clock.advance(10)
            _ = [item async for item in stalled]
        assert session.viewers == 0 and session.ahead_s == 0

    async def run():
        async with fakes.running() as (session, clock, engine):
            for _ in range(WARM_UP):
                await talk(session, clock)
            held, frames = Held.now(), engine.frames
            for number in range(ROUNDS):
                if number == ROUNDS // 2:
                    halfway = Held.now()
                await talk(session, clock)
            assert engine.frames - frames > 20 * ROUNDS, "it spoke"
            held.assert_kept(ROUNDS, _MEMORY_PER_ROUND, halfway)

    asyncio.run(asyncio.wait_for(run(), 120))


def test_sessions_that_have_ended_leave_nothing(fakes, tmp_path):
    async def talk(manager, clock, number: int) -> None:
        session = await manager.create("ada")
        stalled = session.media()
        session.record(tmp_path / "film.mp4")
        waiting = asyncio.create_task(session.push_pcm(fakes.tone(2), 16000))
        await clock.advance(0.7)
        if number % 3 == 0:
            session.clear()
        elif number % 3 == 1:
            # The utterance goes on, and so does the recording: they end with the session.
            waiting = asyncio.gather(waiting, *(session.push_pcm(fakes.tone(30), 16000) for _ in range(3)))
            await clock.advance(0.1)
        else:
            session.end_of_segment()
            await session.stop_recording()
        await manager.close(session.id)
        await asyncio.gather(waiting, return_exceptions=True)
        (tmp_path / "film.mp4").unlink()
        assert len([item async for item in stalled]) > 10

    async def run():
        clock, engine, avatars = fakes.SimClock(), fakes.FakeEngine(), Avatars(fakes.FakeAvatar)
        manager = SessionManager(engine, avatars, fakes.FakeFeatures, clock=clock, executor=fakes.Inline())
        for number in range(WARM_UP):
            await talk(manager, clock, number)
        avatars.all.clear()
        held = Held.now()
        for number in range(ROUNDS):
            if number == ROUNDS // 2:
                avatars.all.clear()
                halfway = Held.now()
            await talk(manager, clock, number)
        assert not engine.sessions and not len(manager) and {avatar.released for avatar in avatars.all} == {1}
        avatars.all.clear()
        held.assert_kept(ROUNDS, _MEMORY_PER_ROUND, halfway)
        await manager.shutdown()

    asyncio.run(asyncio.wait_for(run(), 120))
