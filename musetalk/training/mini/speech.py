"""Thirty-second segments of synthetic speech, as an audio encoder meets them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import lfilter
from torch import Tensor

from ...audio.mel import log_mel
from ...audio.windows import STEPS_PER_SECOND
from ..synthetic.scripts import utterance
from ..synthetic.visemes import VisemeTrack, sampled_poses, viseme_track
from .config import LONGEST

_SHORTEST = 4.0
# So much of the segments end early and are padded with silence, as the last one of every sound is.
_SHORT = 0.3


@dataclass(frozen=True)
class SpeechSegment:
    """mel: float32 ``[80, 3000]``; what follows the speech is silence.

    steps: float32 ``[n, 6]``, mouth poses at the times of the encoder's steps, 50 a second.
    frames: the mouth at 25 frames a second.
    """

    mel: Tensor
    steps: np.ndarray
    frames: VisemeTrack


def speech_segment(
    rng: np.random.Generator,
    seconds: float = LONGEST,
    *,
    held_out: bool = False,
    clean: bool = False,
    whole: bool = False,
) -> SpeechSegment:
    """A segment drawn at random, of training's voices and sentences or of those held out.

    What one seed makes is equal in distribution only: espeak-ng's sound changes from call to call by up to 10 ms, and
    with it how many sentences fill a segment. So draw nothing else from ``rng``.

    seconds: 5 to 30, of a segment that is whole.
    clean: as the voice speaks it; otherwise louder or softer, through some microphone, with some noise.
    whole: speech to the end; otherwise some segments end early.
    """
    short = not whole and rng.random() < _SHORT
    seconds = float(rng.uniform(_SHORTEST, seconds)) if short else seconds
    speech = utterance(seconds, rng, held_out)
    samples = speech.samples if clean else _recorded(speech.samples, rng)
    times = np.arange(int(seconds * STEPS_PER_SECOND)) / STEPS_PER_SECOND
    return SpeechSegment(log_mel(samples), sampled_poses(speech, times), viseme_track(speech))


def _recorded(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain, a random tilt and resonance of the microphone, and noise 70 to 20 dB below the loudest sample."""
    tilt, resonance, width = rng.uniform(-0.6, 0.6), rng.uniform(0.05, 0.9) * np.pi, rng.uniform(0.5, 0.9)
    coloured = lfilter([1.0, -tilt], [1.0], samples)
    if rng.random() < 0.5:
        resonant = lfilter([1.0 - width], [1.0, -2 * width * np.cos(resonance), width**2], samples)
        coloured = coloured + rng.uniform(-0.5, 1.5) * resonant
    loudest = float(np.abs(coloured).max()) + 1e-9
    coloured = coloured * (10 ** rng.uniform(-1.2, -0.05) / loudest)
    level = float(np.abs(coloured).max()) * 10 ** rng.uniform(-3.5, -1.0)
    hiss = lfilter([1.0], [1.0, -rng.uniform(0, 0.95)], rng.standard_normal(len(samples)))
    hiss *= level / (float(np.std(hiss)) * 3 + 1e-9)
    return (coloured + hiss).astype(np.float32)


def mask_bands(mels: Tensor, rng: np.random.Generator) -> Tensor:
    """Mels ``[B, 80, 3000]`` each with one band of up to 12 bins blanked, half of the time."""
    mels = mels.clone()
    for mel in mels:
        if rng.random() < 0.5:
            first, count = int(rng.integers(0, 70)), int(rng.integers(2, 13))
            mel[first : first + count] = mel.mean()
    return torch.as_tensor(mels)
