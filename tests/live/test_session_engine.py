"""A session on the real parts: networks, worker, features, avatar and clock."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import numpy as np
import pytest

from musetalk import prepare_avatar
from musetalk.live.generator import ModelGenerator
from musetalk.live.live_avatar import LiveAvatar
from musetalk.live.session import Session
from musetalk.live.streaming import FeatureStream, silence_window
from musetalk.live.worker import Worker

# Slow enough for a machine that is busy with other things.
SLOW = Fraction(2)


@pytest.fixture(scope="module")
def avatar(mesh_models, portrait_frames):
    return prepare_avatar(mesh_models, portrait_frames[:3], boxes=np.tile([139, 60, 232, 176], (3, 1)))


def test_a_voice_goes_in_and_a_speaking_face_comes_out(mesh_models, avatar):
    rng = np.random.default_rng(1)
    sound = (rng.normal(size=96000) * 6000).clip(1, 30000).astype("<i2")

    async def run():
        live = LiveAvatar(avatar)
        with Worker(ModelGenerator(mesh_models), capacity=1) as worker:
            await asyncio.to_thread(live.warm, worker, silence_window(mesh_models))
            session = Session("one", worker, live, lambda: FeatureStream(mesh_models, SLOW), fps=SLOW)
            session.start()
            heard, spoken, idle = b"", [], []
            async with session.media() as viewer:
                for start in range(0, len(sound), 1111):
                    await session.push_pcm(sound[start : start + 1111].tobytes(), 24000)
                session.end_of_segment()
                ended: list[int] = []
                session.listen(lambda event: ended.append(event.pts_frames) if event.kind == "ended" else None)
                async for item in viewer:
                    if hasattr(item, "pcm"):
                        heard += item.pcm if item.rate == 24000 else b""
                    else:
                        (spoken if item.speaking else idle).append(item)
                    if ended and session.now > ended[0] + 5:
                        break
            await session.close()
        samples = np.frombuffer(heard, "<i2")
        assert samples[samples != 0].tobytes() == sound.tobytes()
        assert len(spoken) >= 2 and session.lips.failed == 0
        closed = [live.idle_frame(source) for source in range(3)]
        # Before speech and after it, the face that was made from silence; in speech, another.
        assert any(np.array_equal(idle[-1].image, frame) for frame in closed)
        assert not any(np.array_equal(item.image, frame) for item in spoken for frame in closed)

    asyncio.run(asyncio.wait_for(run(), 60))
