"""The mouth that speaks silence is the closed one: what is streamed meets what was drawn ahead."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import cv2
import numpy as np
import pytest

from musetalk import prepare_avatar
from musetalk.live.generator import ModelGenerator
from musetalk.live.lips import HORIZON_FRAMES
from musetalk.live.session import Session
from musetalk.live.store import AvatarStore
from musetalk.live.streaming import FeatureStream
from musetalk.live.worker import Worker

RATE = 16000
SILENCE = bytes(2 * RATE)


@pytest.fixture(scope="module")
def worker(mini_models):
    with Worker(ModelGenerator(mini_models), 1) as worker:
        yield worker


@pytest.fixture(scope="module")
def store(stores, mini_models, portrait, worker, tmp_path_factory):
    """A store that drew the closed mouth of ``ada``, a picture of a person."""
    picture = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    store = AvatarStore(tmp_path_factory.mktemp("avatars"), mini_models, worker)
    store.add("ada", prepare_avatar(mini_models, picture[None]))
    assert stores.finished(store.warm("ada")).state == "done"
    yield store
    store.close()


async def drawn(session) -> None:
    """Wait until as many pictures as may be are there ahead of time."""
    (segment,) = session._speech.segments
    while not (
        (segment.complete or segment.known - segment.next >= HORIZON_FRAMES)
        and all(frame.answered for frame in segment.frames.values())
    ):
        await asyncio.sleep(0.005)


async def spoken(fakes, models, worker, avatar, sound: bytes, *, thinned: bool) -> list[np.ndarray]:
    """The pictures of a sound, uint8 RGB ``[H, W, 3]`` each, from a session that waits for them."""
    # An hour ahead of the worker's clock nothing is late, however slow the machine.
    clock = fakes.SimClock(time.monotonic() + 3600)
    features = partial(FeatureStream, models, thinned=thinned)
    session = Session("one", worker, avatar, features, clock=clock, executor=fakes.Inline())
    session.start()
    await session.push_pcm(sound, RATE)
    session.end_of_segment()
    pictures = []
    while session.ahead_s:
        await drawn(session)
        pictures += (await fakes.collect(session, clock, 0.2))[0]
    assert session.lips.lost == session.lips.failed == 0
    await session.close()
    return [item.image for item in pictures if item.speaking]


@pytest.mark.parametrize(("thinned", "most", "mean"), [(False, 12, 1.0), (True, 30, 1.5)], ids=["whole", "thinned"])
def test_silence_is_spoken_with_the_closed_mouth(fakes, mini_models, worker, store, thinned, most, mean):
    """In grey levels of 256, over the part of the picture that is redrawn.

    Not to the bit: a window in the stream is that of its own place in the sound, with as much silence before it as was
    heard; the closed mouth is that of one place, a second into it. Of the whole encoder that is 8 levels at most and
    0.5 on average. A thinned one hears of the silence behind by a few steps for all: 68 levels at most, on the lips,
    where every third frame shows them a little apart, and 2.4 on average.
    """
    avatar = store.open("ada")
    pictures = asyncio.run(asyncio.wait_for(spoken(fakes, mini_models, worker, avatar, SILENCE, thinned=thinned), 60))
    assert len(pictures) == 25
    x0, y0, x1, y1 = avatar.avatar.mask_of(0).region
    closed, filmed = (image[y0:y1, x0:x1].astype(int) for image in (avatar.idle_frame(0), avatar.footage(0)))
    # The first fade in, the last are encoded again with the end in sight.
    apart = [np.abs(image[y0:y1, x0:x1] - closed) for image in pictures[4:-6]]
    assert max(part.max() for part in apart) <= most and max(part.mean() for part in apart) <= mean
    # The picture was filmed smiling: that is what a mouth that is not closed is apart.
    assert np.abs(filmed - closed).mean() > 2 * mean
