"""Which picture is shown when: in step with the sound, with missing pictures, and when the avatar changes."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

STEPS = 20


def staircase(fakes, seconds: float, rate: int = 16000) -> bytes:
    """Sound that is louder from frame to frame, over and over: it tells which frame a picture was drawn from."""
    count = round(seconds * 25)
    return b"".join(fakes.tone(0.04, rate, level=(1 + index % STEPS) / STEPS) for index in range(count))


def steps_seen(fakes, pictures) -> dict[int, int]:
    """Of each picture that is said to follow the sound and does not fade: its frame, and the step in its mouth."""
    return {
        item.pts_frames: round((mouth - fakes.SPOKEN) / 55 * STEPS)
        for item, mouth in zip(pictures, fakes.mouths(pictures), strict=True)
        if item.speaking and mouth > fakes.SPOKEN
    }


def steps_heard(fakes, packets) -> dict[int, int]:
    """The step in the sound of each frame."""
    steps: dict[int, int] = {}
    for item in packets:
        loudest = np.abs(fakes.pcm_of([item]).astype(int)).max()
        steps[item.pts_samples * 50 // item.rate // 2] = round(loudest / 32767 * STEPS)
    return steps


def losing(engine, is_lost) -> None:
    """Have the engine drop the frames whose number, counted in the order they are asked, ``is_lost``."""
    count, answer = 0, engine.answer

    def picky(job) -> None:
        nonlocal count
        if hasattr(job, "window"):
            count += 1
            if is_lost(count - 1):
                return  # never answered: asked for, and too late
        answer(job)

    engine.answer = picky


def test_a_picture_that_follows_the_sound_is_always_that_of_the_sound(fakes):
    async def run():
        clock = fakes.SimClock()
        engine = fakes.SlowEngine(clock, 0.085)  # for 80 ms of sound
        losing(engine, lambda index: index % 3 == 2)
        features = partial(fakes.FakeFeatures, hop=2)
        async with fakes.running(engine=engine, clock=clock, make_features=features) as (session, _, _engine):
            for _ in range(3):
                await session.push_pcm(staircase(fakes, 4), 16000)
                session.end_of_segment()
            pictures, packets = await fakes.collect(session, clock, 14)
            seen, heard = steps_seen(fakes, pictures), steps_heard(fakes, packets)
            assert len(seen) > 50 and session.lips.lost > 50
            assert seen == {frame: heard[frame] for frame in seen}
            # However much is missing, the footage never goes back, nor stands longer than a picture is held.
            steps = np.diff(fakes.sources(pictures)[:100])
            assert steps.min() >= 0 and longest_run(steps == 0) <= 3

    asyncio.run(run())


def longest_run(flags) -> int:
    """How many in a row are true at most."""
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def test_the_footage_goes_on_behind_a_segment_without_lips(fakes, caplog):
    caplog.set_level(logging.CRITICAL)
    made = []

    def make_features():
        made.append(None)
        if len(made) == 1:
            raise RuntimeError("no lips for the first segment")
        return fakes.FakeFeatures()

    async def run():
        async with fakes.running(make_features=make_features) as (session, clock, _):
            for seconds in (2.02, 1.0):
                await session.push_pcm(fakes.tone(seconds), 16000)
                session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 3.5)
            speaking = [item.pts_frames for item in pictures if item.speaking]
            assert len(speaking) == 25 and session.lips.lost == 50
            assert set(np.diff(fakes.sources(pictures))) == {1}

    asyncio.run(run())


def test_the_footage_does_not_wait_for_lips_that_skipped_ahead(fakes):
    async def run():
        async with fakes.running() as (session, clock, engine):
            await session.push_pcm(staircase(fakes, 3), 16000)
            session.end_of_segment()
            await clock.advance(0.4)
            engine.hold = True
            await clock.advance(1.2)
            engine.release()
            pictures, packets = await fakes.collect(session, clock, 1)
            assert set(np.diff(fakes.sources(pictures))) == {1}
            heard = steps_heard(fakes, packets)
            seen = steps_seen(fakes, pictures)
            assert len(seen) > 15 and seen == {frame: heard[frame] for frame in seen}

    asyncio.run(run())


def test_with_every_second_picture_lost_the_mouth_does_not_flutter(fakes):
    async def run():
        engine = fakes.FakeEngine()
        losing(engine, lambda index: index % 2 == 1)
        async with fakes.running(engine=engine) as (session, clock, _):
            await session.push_pcm(fakes.tone(2), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 2.5)
            first = next(index for index, item in enumerate(pictures) if item.speaking)
            for before, item in pairwise(pictures[first : first + 48]):
                assert item.speaking or fakes.sources([item]) == fakes.sources([before])
            full = next(index for index, mouth in enumerate(fakes.mouths(pictures)) if mouth == 255)
            part = pictures[full : full + 40]
            assert fakes.mouths(part) == [255] * 40
            # Held whole: the mouth stays on the picture it was drawn for, and the next one is at its own place.
            steps = np.diff(fakes.sources(part))
            assert set(steps) == {0, 2} and steps.sum() in (38, 40)
            assert all(one.speaking != other.speaking for one, other in pairwise(part))
            # What is held counts as lost all the same.
            assert session.lips.lost == 25

    asyncio.run(run())


@pytest.mark.parametrize(("lost", "closed"), [(3, False), (4, False), (12, True)])
def test_a_picture_is_held_for_three_frames_and_then_the_mouth_closes(fakes, lost, closed):
    async def run():
        engine = fakes.FakeEngine()
        losing(engine, lambda index: 10 <= index < 10 + lost)
        async with fakes.running(engine=engine) as (session, clock, _):
            await session.push_pcm(fakes.tone(2), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 2)
            first = next(item.pts_frames for item in pictures if item.speaking)
            gap = pictures[first + 9 : first + 11 + lost]
            mouths = fakes.mouths(gap)
            assert mouths[:4] == [255] * 4 and set(fakes.sources(gap)[:4]) == {fakes.sources(gap)[0]}
            assert (min(mouths) == 0) == closed
            if closed:
                assert mouths[4:7] == sorted(mouths[4:7], reverse=True) and mouths[7:-1] == [0] * (lost - 6)
            assert fakes.sources(gap)[-1] - fakes.sources(gap)[0] == lost + 1, "the footage went on underneath"

    asyncio.run(run())


def test_what_is_held_is_dropped_where_speech_is_cut_off(fakes):
    async def run():
        engine = fakes.FakeEngine()
        async with fakes.running(engine=engine) as (session, clock, _):
            await session.push_pcm(fakes.tone(2), 16000)
            await clock.advance(0.5)
            for segment in session._speech.segments:
                for frame in segment.frames.values():
                    frame.picture = None
            pictures, _ = await fakes.collect(session, clock, 0.08)
            assert fakes.mouths(pictures) == [255] * 2 and not any(item.speaking for item in pictures)
            session.clear()
            pictures, _ = await fakes.collect(session, clock, 0.2)
            assert fakes.mouths(pictures) == [0] * 5

    asyncio.run(run())


def test_a_pause_in_the_sound_holds_no_picture(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            await session.push_pcm(fakes.tone(1), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 2)
            last = max(item.pts_frames for item in pictures if item.speaking)
            assert fakes.mouths(pictures)[last + 1] < 255

    asyncio.run(run())


def test_after_a_switch_the_other_avatar_goes_on_speaking_at_once(fakes):
    async def run():
        first, second = fakes.FakeAvatar(mark=10), fakes.FakeAvatar(mark=20, length=70)
        async with fakes.running(first) as (session, clock, _):
            await session.push_pcm(staircase(fakes, 3), 16000)
            await clock.advance(0.5)
            switching = asyncio.create_task(session.switch_avatar(second))
            await fakes.settle()
            pictures, packets = await fakes.collect(session, clock, 1)
            assert switching.done()
            assert {int(item.image[0, 0, 1]) for item in pictures} == {20}
            # The picture jumps anyway: no frame of the other avatar has its mouth closed, or half closed.
            heard, seen = steps_heard(fakes, packets), steps_seen(fakes, pictures)
            assert len(seen) == len(pictures) == 25
            assert seen == {frame: heard[frame] for frame in seen}

    asyncio.run(run())


def test_nothing_of_the_old_avatar_is_held_over_the_new_one(fakes):
    async def run():
        first, second = fakes.FakeAvatar(mark=10), fakes.FakeAvatar(mark=20)
        async with fakes.running(first) as (session, clock, engine):
            await session.push_pcm(fakes.tone(3), 16000)
            await clock.advance(0.5)
            engine.hold_frames = True
            switching = asyncio.create_task(session.switch_avatar(second))
            await fakes.settle()
            before, _ = await fakes.collect(session, clock, 0.2)
            engine.release()
            after, _ = await fakes.collect(session, clock, 0.4)
            assert switching.done()
            marks = [int(item.image[0, 0, 1]) for item in before + after]
            assert marks == [20] * 15
            assert fakes.mouths(before) == [0] * 5 and fakes.mouths(after)[-1] == 255
            assert max(np.abs(np.diff(fakes.mouths(before + after)))) <= 64, "then it fades in"

    asyncio.run(run())


def test_of_two_switches_the_last_is_shown_and_all_avatars_are_released(fakes):
    async def run():
        avatars = [fakes.FakeAvatar(mark=mark) for mark in (10, 20, 30)]
        async with fakes.running(avatars[0]) as (session, clock, _):
            events = []
            session.listen(lambda event: events.append(event.kind))
            await clock.advance(0.1)
            switches = [asyncio.create_task(session.switch_avatar(avatar)) for avatar in avatars[1:]]
            await fakes.settle()
            switches[1].cancel()
            pictures, _ = await fakes.collect(session, clock, 0.2)
            assert [int(item.image[0, 0, 1]) for item in pictures] == [30] * 5
            assert switches[0].done() and events == ["avatar"]
            assert [avatar.released for avatar in avatars] == [1, 1, 0]
        assert [avatar.released for avatar in avatars] == [1, 1, 1]

    asyncio.run(run())


def test_lips_that_are_too_slow_leave_frames_out_and_come_in_time_for_the_others(fakes):
    async def run():
        clock = fakes.SimClock()
        engine = fakes.SlowEngine(clock, 0.12)  # for 80 ms of sound
        features = partial(fakes.FakeFeatures, hop=2)
        async with fakes.running(engine=engine, clock=clock, make_features=features) as (session, _, _engine):
            await session.push_pcm(staircase(fakes, 10), 16000)
            session.end_of_segment()
            pictures, packets = await fakes.collect(session, clock, 11)
            seen, heard = steps_seen(fakes, pictures), steps_heard(fakes, packets)
            assert seen == {frame: heard[frame] for frame in seen}
            assert session.lips.lost <= 125

    asyncio.run(run())
