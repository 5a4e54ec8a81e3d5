"""Networks that fail for a while: the session goes on, its sound too, and the lips come back."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from musetalk.live.errors import LiveError


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Every failure is logged."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("trouble", ["fail", "drop", "hold", "fail_encoding"])
def test_lips_come_back_within_an_utterance(fakes, trouble):
    async def run():
        async with fakes.running() as (session, clock, engine):
            sound = fakes.ramp(9, 16000)
            await session.push_pcm(sound, 16000)
            session.end_of_segment()
            before, first = await fakes.collect(session, clock, 1)
            setattr(engine, trouble, True)
            during, second = await fakes.collect(session, clock, 3)
            setattr(engine, trouble, False)
            engine.release()
            after, third = await fakes.collect(session, clock, 6)
            assert before[-1].speaking and fakes.mouths(during)[-1] == 0
            # The pictures that were asked for in vain, and half a second at most for the encoder to be asked again.
            speaking = [item.speaking for item in after[: 5 * 25 - 1]]
            missed = speaking.index(True)
            assert missed <= 16 + 12 and all(speaking[missed:])
            heard = fakes.pcm_of([*first, *second, *third])
            places = np.flatnonzero(heard)
            assert heard[places].tobytes() == sound
            assert places[-1] - places[0] + 1 == len(sound) // 2, "played without a gap"
            assert set(np.diff(fakes.sources([*before, *during, *after])[:100])) <= {0, 1, 2, 3, 4}

    asyncio.run(run())


def test_a_voice_that_is_still_arriving_is_heard_while_the_encoder_is_broken(fakes):
    async def run():
        async with fakes.running() as (session, clock, engine):
            sound = fakes.ramp(6, 16000)

            async def speak() -> None:
                for start in range(0, len(sound), 1280):
                    await session.push_pcm(sound[start : start + 1280], 16000)
                    # Once it is late: less than a quarter of a second waits to be played from then on.
                    await clock.sleep_until(clock.now() + (0.08 if start == 1280 * 30 else 0.04))
                session.end_of_segment()

            speaking = asyncio.create_task(speak())
            _, first = await fakes.collect(session, clock, 1)
            engine.fail_encoding = True
            _, second = await fakes.collect(session, clock, 2)
            assert (fakes.pcm_of(second) != 0).all(), "played without a gap"
            engine.fail_encoding = False
            pictures, third = await fakes.collect(session, clock, 5)
            await speaking
            heard = fakes.pcm_of([*first, *second, *third])
            assert heard[heard != 0].tobytes() == sound
            # Where lips need more sound ahead than there was, it pauses once, as for any that did not come in time.
            assert all(item.speaking for item in pictures[25:75])

    asyncio.run(run())


@pytest.mark.parametrize("trouble", ["hold", "fail_encoding"])
def test_a_voice_that_went_on_without_lips_has_them_again_after_a_pause(fakes, trouble):
    async def run():
        async with fakes.running() as (session, clock, engine):

            async def speak(seconds: float) -> None:
                for _ in range(round(seconds * 25)):
                    await session.push_pcm(fakes.tone(0.04), 16000)
                    await clock.sleep_until(clock.now() + 0.04)

            setattr(engine, trouble, True)
            before = asyncio.create_task(speak(1))
            await clock.advance(1.5)
            setattr(engine, trouble, False)
            engine.release()
            await clock.advance(1)
            after = asyncio.create_task(speak(1.9))
            pictures, _ = await fakes.collect(session, clock, 2)
            await asyncio.wait_for(asyncio.gather(before, after), 10)
            assert all(item.speaking for item in pictures[20:-5])

    asyncio.run(run())


def test_an_encoder_that_stays_broken_is_given_up_and_the_next_segment_tries_again(fakes):
    async def run():
        async with fakes.running() as (session, clock, engine):
            engine.fail_encoding = True
            await session.push_pcm(fakes.tone(16), 16000)
            session.end_of_segment()
            await clock.advance(13)
            (segment,) = session._speech.segments
            assert segment.complete
            engine.fail_encoding = False
            await session.push_pcm(fakes.tone(1), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 5)
            assert sum(item.speaking for item in pictures) == 25

    asyncio.run(run())


def test_a_worker_that_takes_nothing_costs_pictures_only(fakes):
    async def run():
        async with fakes.running() as (session, clock, engine):
            take = engine.submit

            def refuse(jobs) -> None:
                raise LiveError("too many jobs wait")

            engine.submit = refuse
            sound = fakes.ramp(4, 16000)
            await session.push_pcm(sound, 16000)
            session.end_of_segment()
            _, first = await fakes.collect(session, clock, 2)
            engine.submit = take
            pictures, second = await fakes.collect(session, clock, 2.5)
            heard = fakes.pcm_of([*first, *second])
            assert heard[heard != 0].tobytes() == sound
            assert sum(item.speaking for item in pictures) > 25

    asyncio.run(run())
