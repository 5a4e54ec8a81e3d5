"""A session on the real parts: networks, worker, features and avatar. Its clock waits for them."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from musetalk import prepare_avatar
from musetalk.live.generator import EncodeJob, FrameJob, ModelGenerator
from musetalk.live.live_avatar import LiveAvatar
from musetalk.live.session import Session
from musetalk.live.streaming import FeatureStream, silence_window
from musetalk.live.worker import Worker

FPS = Fraction(2)


@pytest.fixture(scope="module")
def avatar(mesh_models, portrait_frames):
    return prepare_avatar(mesh_models, portrait_frames[:1], boxes=np.array([[139, 60, 232, 176]]))


async def drawn(session) -> None:
    """Wait until all that was said has its pictures."""
    while not all(
        segment.complete and all(frame.answered for frame in segment.frames.values())
        for segment in session._speech.segments
    ):
        await asyncio.sleep(0.01)


def test_a_voice_goes_in_and_a_speaking_face_comes_out(fakes, mesh_models, avatar):
    rng = np.random.default_rng(1)
    sound = (rng.normal(size=24000) * 6000).clip(1, 30000).astype("<i2")

    async def run():
        live = LiveAvatar(avatar)
        with Worker(ModelGenerator(mesh_models), capacity=1) as worker:
            await asyncio.to_thread(live.warm, worker, silence_window(mesh_models))
            # An hour ahead of the worker's clock nothing is late, however slow the machine.
            clock = fakes.SimClock(time.monotonic() + 3600)
            features = partial(FeatureStream, mesh_models, FPS)
            session = Session("one", worker, live, features, fps=FPS, clock=clock, executor=fakes.Inline())
            session.start()
            for start in range(0, len(sound), 1111):
                await session.push_pcm(sound[start : start + 1111].tobytes(), 24000)
            session.end_of_segment()
            await drawn(session)
            pictures, packets = await fakes.collect(session, clock, 3)
            await session.close()
        samples = fakes.pcm_of([item for item in packets if item.rate == 24000])
        assert samples[samples != 0].tobytes() == sound.tobytes()
        assert [item.speaking for item in pictures] == [True, True, False, False, False]
        assert session.lips.failed == session.lips.lost == 0
        # After speech, the face that was made from silence; in speech, another.
        closed = live.idle_frame(0)
        assert [np.array_equal(item.image, closed) for item in pictures][:2] == [False, False]
        assert np.array_equal(pictures[-1].image, closed)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_was_encoded_is_gone_without_pythons_collector(fakes):
    """It hardly ever comes in a process with PyTorch, and each sound that waited for it would be a megabyte."""

    class Watched(fakes.FakeEngine):
        def submit(self, jobs):
            encoded.extend(weakref.ref(job) for job in jobs if isinstance(job, EncodeJob))
            drawn.extend(weakref.ref(job) for job in jobs if isinstance(job, FrameJob))
            super().submit(jobs)

    encoded, drawn = [], []

    async def run():
        async with fakes.running(engine=Watched()) as (session, clock, _):
            await session.push_pcm(fakes.tone(3), 16000)
            await clock.advance(2)
            return [sum(job() is not None for job in jobs) for jobs in (encoded, drawn)]

    gc.collect()
    gc.disable()
    try:
        left = asyncio.run(asyncio.wait_for(run(), 60))
    finally:
        gc.enable()
    assert len(encoded) > 20 < len(drawn) and left[0] <= 2 and left[1] <= 2
