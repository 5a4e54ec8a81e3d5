"""What a session gives its viewers. Time is turned by hand: no test waits."""

from __future__ import annotations

import asyncio
import random
from fractions import Fraction

import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.live.errors import LiveError, SessionClosedError, SessionLimitError
from musetalk.live.packets import Packets
from musetalk.live.speech import Speech
from musetalk.live.timeline import SessionLimits


def test_idle_footage_goes_on_and_comes_back_with_the_mouth_closed(fakes):
    async def run():
        async with fakes.running(fakes.FakeAvatar(length=5)) as (session, clock, _):
            pictures, packets = await fakes.collect(session, clock, 0.6)
            assert fakes.sources(pictures) == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4]
            assert not any(item.speaking for item in pictures) and fakes.mouths(pictures) == [0] * 15
            assert not fakes.pcm_of(packets).any() and len(packets) == 30

    asyncio.run(run())


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(30000, 1001)])
def test_sound_comes_out_whole_and_time_is_counted(fakes, fps):
    async def run():
        avatar = fakes.FakeAvatar(fps=fps)
        async with fakes.running(avatar, fps=fps) as (session, clock, _):
            sound = fakes.ramp(1.2345, 24000)
            await session.push_pcm(sound, 24000)
            session.end_of_segment()
            pictures, packets = await fakes.collect(session, clock, 3)
            assert [item.pts_frames for item in pictures] == list(range(len(pictures)))
            assert abs(len(pictures) - 3 * fps) <= 1
            # Packets are 20 ms each, at whatever rate.
            assert [Fraction(item.pts_samples, item.rate) for item in packets] == [
                Fraction(index, 50) for index in range(len(packets))
            ]
            spoken = fakes.pcm_of([item for item in packets if item.rate == 24000])
            heard = spoken[np.flatnonzero(spoken)[0] : np.flatnonzero(spoken)[-1] + 1]
            assert heard.tobytes() == sound

    asyncio.run(run())


def test_sound_and_picture_begin_together(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            await clock.advance(0.5)
            await session.push_pcm(fakes.tone(0.4) + fakes.tone(0.4, level=0.0) + fakes.tone(0.4), 16000)
            session.end_of_segment()
            pictures, packets = await fakes.collect(session, clock, 2)
            loud_frames = {item.pts_frames for item in pictures if item.image[0, 0, 2] > 210}
            loud_packets = {item.pts_samples * 50 // item.rate // 2 for item in packets if any(item.pcm)}
            first, last = min(loud_packets), max(loud_packets)
            # The fade shows the first three spoken frames more softly.
            assert loud_packets - loud_frames == {first, first + 1, first + 2}
            # One frame may fade after the sound, and the pause of 400 ms is seen as it is heard.
            assert max(loud_frames) == last
            assert sorted(set(range(first, last + 1)) - loud_packets) == list(range(first + 10, first + 20))
            assert not set(range(first + 10, first + 20)) & loud_frames

    asyncio.run(run())


def test_nothing_pops_into_and_out_of_speech(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            await clock.advance(0.2)
            await session.push_pcm(fakes.tone(0.8), 16000)
            session.end_of_segment()
            pictures, _ = await fakes.collect(session, clock, 1.5)
            assert max(np.abs(np.diff(fakes.mouths(pictures)))) <= 64
            assert set(np.diff(fakes.sources(pictures))) <= {0, 1}

    asyncio.run(run())


def test_the_first_frame_does_not_wait_for_more_sound_than_it_needs(fakes):
    async def run():
        async with fakes.running() as (session, _, engine):
            await session.push_pcm(fakes.tone(0.18), 16000)
            await fakes.settle()
            assert engine.frames == 1

    asyncio.run(run())


def test_a_microphone_is_followed_without_gaps(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            sound = fakes.ramp(2.0, 16000)

            async def speak() -> None:
                start = clock.now()
                for index in range(100):
                    await session.push_pcm(sound[640 * index : 640 * (index + 1)], 16000)
                    # 20 ms packets that come up to 15 ms late.
                    await clock.sleep_until(start + 0.02 * (index + 1) + 0.005 * (index % 4))
                session.end_of_segment()

            speaking = asyncio.create_task(speak())
            _, packets = await fakes.collect(session, clock, 3)
            await speaking
            heard = fakes.pcm_of(packets)
            places = np.flatnonzero(heard)
            assert heard[places].tobytes() == sound
            assert places[-1] - places[0] + 1 == len(sound) // 2, "played without a gap"
            first = next(item for item in packets if any(item.pcm))
            assert first.pts_samples / first.rate <= 0.36 and session.lips.lost == 0

    asyncio.run(run())


def test_the_avatar_changes_on_the_next_frame_in_mid_speech(fakes):
    async def run():
        first, second = fakes.FakeAvatar(mark=10), fakes.FakeAvatar(mark=20, length=7)
        async with fakes.running(first) as (session, clock, _):
            await session.push_pcm(fakes.ramp(2, 16000), 16000)
            await clock.advance(0.5)
            switching = asyncio.create_task(session.switch_avatar(second))
            pictures, packets = await fakes.collect(session, clock, 0.4)
            assert switching.done() and session.avatar is second
            marks = [int(item.image[0, 0, 1]) for item in pictures]
            assert marks == [20] * 10 and fakes.mouths(pictures)[-1] > 190
            assert (fakes.pcm_of(packets) != 0).all()
            assert (first.released, second.released) == (1, 0)
        assert (first.released, second.released) == (1, 1)
        late = fakes.FakeAvatar()
        with pytest.raises(SessionClosedError):
            await session.switch_avatar(late)
        assert late.released == 1

    asyncio.run(run())


def test_every_item_comes_when_its_count_says(fakes):
    async def run():
        async with fakes.running(fps=Fraction(30000, 1001)) as (session, clock, _):
            begun, late = clock.now(), []

            async def watch() -> None:
                async for item in session.media():
                    rate = session.fps if hasattr(item, "image") else item.rate
                    count = item.pts_frames if hasattr(item, "image") else item.pts_samples
                    late.append(clock.now() - begun - float(Fraction(count) / rate))

            watching = asyncio.create_task(watch())
            await clock.advance(10)
            watching.cancel()
            assert len(late) > 10 * 79
            # A packet is given out with the frame that completes it: up to a frame ahead, up to a packet after.
            assert max(late) < 0.0201 and min(late) > -0.0334

    asyncio.run(run())


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)])
def test_nothing_drifts_in_an_hour(fakes, fps):
    speech, packets = Speech(fps, 60), Packets()
    rng = random.Random(3)
    first = 90_000
    packets.skip_to(speech.sample_of(first, speech.rate), speech.rate)
    begun = count = first * 50 // fps
    sent, heard = [], []
    for index in range(first, first + 3000):
        # The last has time to end.
        if not speech.segments and rng.random() < 0.3 and index < first + 2980:
            rate = rng.choice([8000, 16000, 22050, 24000, 48000])
            sound = fakes.ramp(rng.random() / 4, rate)
            speech.push(sound, rate)
            speech.end()
            # Without lips it begins at once.
            speech.segments[0].complete = True
            sent.append(sound)
        cue = speech.tick(index)
        for packet in packets.add(cue.pcm, cue.rate, cue.start):
            assert packet.pts_samples * 50 == count * packet.rate
            count += 1
            if cue.segment is not None or heard:
                heard.append(fakes.pcm_of([packet]))
    assert abs(count - begun - 3000 * 50 / fps) <= 2 and len(sent) > 100
    joined = np.concatenate(heard)
    assert joined[joined != 0].tobytes() == b"".join(sent)


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)])
def test_the_rate_may_change_on_any_frame(fps):
    speech = Speech(fps, 60)
    for before, after in ((8000, 48000), (48000, 8000), (22050, 96000)):
        for index in range(1300):
            packets = Packets()
            packets.skip_to(speech.sample_of(index, before), before)
            assert packets.add(b"", after, speech.sample_of(index, after)) == []


def test_a_slow_viewer_loses_pictures_only_and_stalls_nobody(fakes):
    async def run():
        async with fakes.running() as (session, clock, _):
            slow = session.media()
            pictures, _ = await fakes.collect(session, clock, 5)
            assert len(pictures) == 125 and slow.dropped == 121
            await slow.aclose()
            gone = session.media()
            await clock.advance(11)
            with pytest.raises(LiveError, match="has not read"):
                await gone.__anext__()
            assert session.viewers == 0
            order = []
            async with session.media() as viewer:
                await clock.advance(0.4)
                while viewer._audio or viewer._video:
                    order.append(await viewer.__anext__())
            sound = [item.pts_samples for item in order if hasattr(item, "pcm")]
            assert sound == list(range(sound[0], sound[0] + 960 * len(sound), 960)) and len(sound) >= 20
            # Of the pictures the newest four are there, each behind its own sound.
            assert [item.pts_frames for item in order if hasattr(item, "image")] == list(
                range(session.now - 4, session.now)
            )
            assert hasattr(order[-1], "image") and hasattr(order[-2], "pcm")

    asyncio.run(run())


def test_viewers_are_few_and_one_who_is_forgotten_is_gone(fakes):
    async def run():
        async with fakes.running(limits=SessionLimits(viewers=2)) as (session, clock, _):
            kept = [session.media(), session.media()]
            with pytest.raises(SessionLimitError):
                session.media()
            kept.clear()
            await clock.advance(0.1)
            assert session.viewers == 0
            viewer = session.media()
            await clock.advance(0.1)
        with pytest.raises(SessionClosedError):
            session.media()
        assert [item async for item in viewer], "what was queued is still read"

    asyncio.run(run())


def test_what_cannot_be_pushed_is_refused(fakes):
    async def run():
        async with fakes.running() as (session, _, _engine):
            for rate in (0, -1, 11025, 7950, 10**9, 16000.5, "16000"):
                with pytest.raises(InputError):
                    await session.push_pcm(b"\0" * 640, rate)
            await session.push_pcm(b"\0" * 641, 16000)
            with pytest.raises(InputError, match="end the segment"):
                await session.push_pcm(b"\0" * 640, 24000)
        with pytest.raises(SessionClosedError):
            await session.push_pcm(b"\0" * 640, 16000)

    asyncio.run(run())


def test_the_end_of_a_session_ends_all_that_waits_on_it(fakes):
    async def run():
        async with fakes.running(limits=SessionLimits(ahead_s=1)) as (session, clock, engine):
            events = []
            session.listen(lambda event: events.append(event.kind))
            engine.hold = True
            await session.push_pcm(fakes.tone(1), 16000)
            pushing = asyncio.create_task(session.push_pcm(fakes.tone(1), 16000))
            viewer = session.media()
            await clock.advance(0.1)
            await asyncio.gather(session.close("bye"), session.close(), session.close())
            with pytest.raises(SessionClosedError):
                await pushing
            assert len([item async for item in viewer]) > 0
            assert events[-1] == "closed" and not engine.sessions
            assert all(job.cancelled() for job in engine.held)

    asyncio.run(run())
