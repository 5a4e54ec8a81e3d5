"""Where the random numbers of a training come from: one generator for each purpose and index, none shared."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn. Speech has streams of its own: how much it draws varies with espeak-ng's jitter."""

    PEOPLE = 1
    HELD_OUT_PEOPLE = 2
    AUDIO_STEPS = 3
    VAE_STEPS = 4
    UNET_STEPS = 5
    AUDIO_SPEECH = 6
    SHOTS = 7
    SHOT_SPEECH = 8
    LATENTS = 9
    AUDIO_HELD_OUT = 10
    VAE_HELD_OUT = 11
    UNET_HELD_OUT = 12
    UNET_HELD_OUT_SPEECH = 13


def generator(stream: Stream, seed: int, index: int = 0) -> np.random.Generator:
    """The generator for one step, segment or shot of a stream.

    Always three numbers: NumPy takes a shorter seed for the same one with zeros after it.
    """
    return np.random.default_rng((int(stream), seed, index))
