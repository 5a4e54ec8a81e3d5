"""A session survives what a conversation does to it. Time is turned by hand: no test waits."""

from __future__ import annotations

import asyncio
import logging
import random
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from musetalk.live.errors import TooMuchAudioError
from musetalk.live.timeline import Played, SessionLimits


def test_a_burst_waits_as_sound_and_a_flood_is_held_back(fakes):
    async def run():
        async with fakes.running(limits=SessionLimits(ahead_s=60)) as (session, clock, engine):
            for _ in range(59):
                await session.push_pcm(fakes.tone(1.0), 16000)
            await fakes.settle(200)
            assert engine.frames <= 20
            with pytest.raises(TooMuchAudioError, match=r"59\.0 s"):
                await session.push_pcm(fakes.tone(2.0), 16000, wait=False)
            with pytest.raises(TooMuchAudioError, match="at most 60 s"):
                await session.push_pcm(fakes.tone(61.0), 16000)
            waiting = asyncio.create_task(session.push_pcm(fakes.tone(2.0), 16000))
            await clock.advance(0.5)
            assert not waiting.done()
            await clock.advance(2)
            assert waiting.done() and 57 < session.ahead_s <= 60

    asyncio.run(run())


def test_less_than_a_frame_that_waits_for_more_does_not_keep_it_out(fakes):
    async def run():
        async with fakes.running(limits=SessionLimits(ahead_s=1)) as (session, clock, _):
            await session.push_pcm(fakes.tone(0.99), 16000)
            waiting = asyncio.create_task(session.push_pcm(fakes.tone(0.99), 16000))
            await clock.advance(3)
            assert waiting.done() and await waiting == 0

    asyncio.run(run())


def test_lips_that_are_too_slow_do_not_chop_the_sound(fakes):
    async def run():
        clock = fakes.SimClock()
        engine = fakes.SlowEngine(clock, 0.15)  # for 80 ms of sound
        features = partial(fakes.FakeFeatures, hop=2)
        async with fakes.running(engine=engine, clock=clock, make_features=features) as (session, _, _engine):
            events = []
            session.listen(lambda event: events.append(event.kind))
            sound = fakes.ramp(10, 16000)
            await session.push_pcm(sound, 16000)
            session.end_of_segment()
            pictures, packets = await fakes.collect(session, clock, 13)
            heard = fakes.pcm_of(packets)
            places = np.flatnonzero(heard)
            assert heard[places].tobytes() == sound
            assert places[-1] - places[0] + 1 == len(sound) // 2, "played without a gap"
            assert events == ["started", "ended"]
            assert any(item.speaking for item in pictures) and session.lips.lost > 0

    asyncio.run(run())


def test_only_frames_that_should_have_a_picture_are_counted_as_lost(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            for _ in range(3):
                await session.push_pcm(fakes.tone(1.02), 16000)
                session.end_of_segment()
            await clock.advance(5)
            assert session.lips.frames == 75 and session.lips.lost == 0

    asyncio.run(run())


def test_a_stall_closes_the_mouth_and_goes_on_where_it_was(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            events = []
            session.listen(lambda event: events.append(event.kind))
            sound = fakes.ramp(1.0, 16000)
            await session.push_pcm(sound[:16001], 16000)
            before, first = await fakes.collect(session, clock, 2)
            await session.push_pcm(sound[16001:], 16000)
            session.end_of_segment()
            after, second = await fakes.collect(session, clock, 2)
            heard = fakes.pcm_of(first + second)
            assert heard[heard != 0].tobytes() == sound
            assert [item.pts_frames for item in before + after] == list(range(100))
            assert fakes.mouths(before)[-1] == 0 and not before[-1].speaking
            # The windows of the last 170 ms were not there yet; after a second that part is heard all the same.
            assert events[:3] == ["started", "stalled", "resumed"] and events[-1] == "ended"

    asyncio.run(run())


def test_clear_closes_the_mouth_on_the_next_picture_and_tells_the_exact_position(fakes):
    async def run():
        async with fakes.running() as (session, clock, engine):
            number = await session.push_pcm(fakes.ramp(5, 24000), 24000)
            session.end_of_segment()
            await session.push_pcm(fakes.ramp(5, 24000), 24000)
            pictures, packets = await fakes.collect(session, clock, 1)
            played = session.clear()
            heard = fakes.pcm_of(packets)[fakes.pcm_of(packets) != 0]
            assert played == Played(number, len(heard) * 1000 // 24000) and played.played_ms > 700
            engine.frames = 0
            pictures, packets = await fakes.collect(session, clock, 1)
            assert fakes.mouths(pictures) == [0] * 25 and not fakes.pcm_of(packets).any()
            assert not any(item.speaking for item in pictures)
            assert engine.frames == 0 and session.ahead_s == 0
            # Nothing is left of it: what comes next is heard from its own beginning.
            await session.push_pcm(fakes.ramp(0.5, 24000), 24000)
            session.end_of_segment()
            _, packets = await fakes.collect(session, clock, 1)
            assert fakes.pcm_of(packets)[fakes.pcm_of(packets) != 0].tobytes() == fakes.ramp(0.5, 24000)
            assert session.clear() == Played(number + 2, 500)

    asyncio.run(run())


def test_clear_while_the_picture_is_drawn_shows_it_closed(fakes):
    async def run():
        avatar = fakes.FakeAvatar()
        async with fakes.running(avatar) as (session, clock, _):
            await session.push_pcm(fakes.tone(2), 16000)
            await clock.advance(0.5)
            draw, cleared = avatar.idle_frame, []

            def interrupting(source):
                if not cleared:
                    cleared.append(session.clear())
                return draw(source)

            avatar.idle_frame = interrupting
            pictures, _ = await fakes.collect(session, clock, 0.2)
            assert cleared and fakes.mouths(pictures) == [0] * 5 and not pictures[0].speaking

    asyncio.run(run())


def test_clear_storms_leave_no_deadlock_and_no_stale_frame(fakes):
    async def run():
        engine = fakes.FakeEngine()
        async with fakes.running(engine=engine) as (session, clock, _):
            assert session.clear() == Played(-1, 0)
            rng = random.Random(7)
            for _ in range(100):
                engine.hold = rng.random() < 0.3
                waiting = asyncio.create_task(session.push_pcm(fakes.tone(rng.random()), 16000))
                await clock.advance(rng.random() / 10)
                if rng.random() < 0.5:
                    session.end_of_segment()
                session.clear()
                if rng.random() < 0.5:
                    engine.release()
                await waiting
            session.clear()
            engine.release()
            pictures, packets = await fakes.collect(session, clock, 1)
            assert fakes.mouths(pictures) == [0] * 25 and not fakes.pcm_of(packets).any()
            await session.push_pcm(fakes.tone(0.5), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 1)
            assert max(fakes.mouths(pictures)) == 255

    asyncio.run(run())


def test_clear_frees_who_waits_for_room(fakes):
    async def run():
        async with fakes.running(limits=SessionLimits(ahead_s=2)) as (session, _, _engine):
            await session.push_pcm(fakes.tone(2), 16000)
            waiting = asyncio.create_task(session.push_pcm(fakes.tone(1), 16000))
            await fakes.settle()
            session.clear()
            assert await waiting == -1 and session.ahead_s == 0

    asyncio.run(run())


@pytest.mark.parametrize("trouble", ["fail", "drop", "hold", "fail_encoding"])
def test_trouble_with_the_worker_costs_pictures_and_never_sound(fakes, trouble, caplog):
    caplog.set_level(logging.CRITICAL)

    async def run():
        engine = fakes.FakeEngine()
        setattr(engine, trouble, True)
        async with fakes.running(engine=engine) as (session, clock, _):
            sound = fakes.ramp(1.0, 16000)
            await session.push_pcm(sound, 16000)
            session.end_of_segment()
            pictures, packets = await fakes.collect(session, clock, 3)
            heard = fakes.pcm_of(packets)
            assert heard[heard != 0].tobytes() == sound
            assert fakes.mouths(pictures) == [0] * 75
            setattr(engine, trouble, False)
            engine.release()
            await session.push_pcm(fakes.tone(0.5), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 1)
            assert max(fakes.mouths(pictures)) == 255, "the next segment has lips again"

    asyncio.run(run())


def test_a_late_picture_is_replaced_and_the_sound_goes_on(fakes):
    async def run():
        async with fakes.running() as (session, clock, engine):
            await session.push_pcm(fakes.ramp(2, 16000), 16000)
            session.end_of_segment()
            await clock.advance(0.3)
            engine.hold_frames = True
            pictures, packets = await fakes.collect(session, clock, 1)
            engine.release()
            assert fakes.mouths(pictures)[-1] == 0 and session.lips.lost > 0
            assert (fakes.pcm_of(packets) != 0).all()
            pictures, _ = await fakes.collect(session, clock, 0.4)
            assert fakes.mouths(pictures)[-1] > 190, "what comes in time again is shown"

    asyncio.run(run())


@pytest.mark.parametrize("fps", [25, 30])
def test_a_short_halt_keeps_all_sound_and_a_long_one_moves_the_timeline(fakes, fps):
    async def run():
        async with fakes.running(fakes.FakeAvatar(fps=Fraction(fps)), fps=Fraction(fps)) as (session, clock, _):
            sound = fakes.ramp(4, 16000)
            await session.push_pcm(sound, 16000)
            session.end_of_segment()
            async with session.media(video_kept=1000) as viewer:
                await clock.advance(0.5)
                await clock.halt(0.5)
                assert fps / 2 - 2 < session.skipped < fps / 2 + 1 and session.now in (fps, fps + 1)
                # At 30 fps this ends within a packet.
                await clock.advance(0.52)
                await clock.halt(3600)
                await clock.advance(5)
                items = [await anext_now(viewer) for _ in range(len(viewer._audio) + len(viewer._video))]
            packets = [item for item in items if hasattr(item, "pcm")]
            heard = fakes.pcm_of(packets)
            assert heard[heard != 0].tobytes() == sound
            times = [item.pts_samples / item.rate for item in packets]
            assert all(later > earlier for earlier, later in pairwise(times))
            assert 3605 < times[-1] < 3607 and len(packets) < 500

    async def anext_now(viewer):
        return await asyncio.wait_for(viewer.__anext__(), 1)

    asyncio.run(run())


def test_a_session_that_fails_ends_and_says_so(fakes, caplog):
    async def run():
        avatar = fakes.FakeAvatar()
        async with fakes.running(avatar) as (session, clock, _):
            viewer = session.media()
            avatar.idle_frame = lambda source: 1 / 0
            await clock.advance(0.2)
            assert session.closed and len([item async for item in viewer]) <= 3
            assert avatar.released == 1

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(run())


def test_an_endless_utterance_keeps_memory_flat_even_without_lips(fakes, caplog):
    caplog.set_level(logging.CRITICAL)

    async def run(engine) -> int:
        async with fakes.running(engine=engine) as (session, clock, _):
            for _ in range(60):
                await session.push_pcm(fakes.tone(1.0, 48000), 48000)
                await clock.advance(1)
            (segment,) = session._speech.segments
            assert len(segment.frames) <= 20
            return len(segment.sound._bytes)

    broken = fakes.FakeEngine()
    broken.fail_encoding = True
    # A second or two are under way, with and without lips.
    assert max(asyncio.run(run(fakes.FakeEngine())), asyncio.run(run(broken))) < 4 * 96000
