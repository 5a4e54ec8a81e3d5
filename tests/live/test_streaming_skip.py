"""A stream that leaves frames out: what is left keeps its bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from musetalk.live.streaming import FeatureStream

SECOND = 16000


@pytest.mark.parametrize("thinned", [False, True])
# Within a 30 s cell of the encoder, and over its end.
@pytest.mark.parametrize(("seconds", "hop"), [(3, 4), (31, 50)])
def test_frames_after_those_left_out_are_the_same_to_the_bit(tiny_models, thinned, seconds, hop):
    rng = np.random.default_rng(3)
    sound = (rng.standard_normal(seconds * SECOND) / 10).astype(np.float32)
    whole, part = (FeatureStream(tiny_models, Fraction(25), hop_frames=hop, thinned=thinned) for _ in range(2))
    expected = {frame.index: frame.window for frame in whole.push(sound)}
    wanted = 25 * seconds - 10 - hop
    part.feed(sound)
    part.skip_to(wanted)
    frames = part.push(sound[:0])
    indices = [frame.index for frame in frames]
    assert indices == list(range(indices[0], len(expected))) and wanted - hop < indices[0] <= wanted
    assert all(torch.equal(frame.window, expected[frame.index]) for frame in frames)


def test_nothing_that_is_not_due_or_left_for_the_end_is_left_out(tiny_models):
    sound = np.full(SECOND, 0.1, np.float32)
    stream = FeatureStream(tiny_models, Fraction(25))
    stream.feed(sound)
    stream.skip_to(10**6)
    first = stream.push(sound[:0])
    assert first == []
    assert [frame.index for frame in stream.flush()] == list(range(21, 25))
