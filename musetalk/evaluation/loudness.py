"""How strongly a voice articulates at each video frame, and where it is silent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.signal import butter, sosfilt

from ..audio.waveform import SAMPLE_RATE, Waveform

# The telephone band: formants of the voice, without hum below and hiss above.
_BAND_HZ = (300.0, 3400.0)
_ORDER = 4
_FLOOR_DB = -100.0
# Loud parts are told from quiet ones over this many dB below the loudest; what is quieter is all the same.
_RANGE_DB = 40.0
# A syllable is about 0.2 s; a Hann window of this length keeps it and evens out the periods of the voice.
_SMOOTHING_SECONDS = 0.12
# Quiet: this far below the loud parts (95th percentile), or below a level nobody hears.
_QUIET_DB, _INAUDIBLE_DB = 35.0, -60.0
# Pauses shorter than this are part of speech, and lips move a little before and after the voice does.
_MIN_SILENCE_SECONDS, _LIP_SECONDS = 0.3, 0.1
_FRAMES_AT_ONCE = 256


@dataclass(frozen=True)
class Loudness:
    """A sound at the rate of a video of ``N`` frames.

    level: float64 ``[N]``, dB of full scale of the band 300 to 3400 Hz while each frame is shown; NaN past the end of
        the sound.
    articulation: float64 ``[N]``, ``level`` from 40 dB below its maximum (0) to its maximum (1), smoothed over 0.12 s.
    silent: bool ``[N]``, see :func:`find_silence`.
    """

    level: np.ndarray
    articulation: np.ndarray
    silent: np.ndarray

    @property
    def audible(self) -> bool:
        """Whether there is anything to hear at all."""
        return bool(np.nan_to_num(self.level, nan=_FLOOR_DB).max(initial=_FLOOR_DB) > _INAUDIBLE_DB)


def measure_loudness(waveform: Waveform, fps: Fraction, frames: int) -> Loudness:
    """The loudness of 16 kHz samples over each of ``frames`` video frames; frame i lasts from i / fps to (i + 1) / fps.

    Read in pieces: memory does not grow with the sound but for three numbers per frame.
    """
    power = np.full(frames, np.nan)
    start = 0
    for part in _band_power(waveform, fps, frames):
        power[start : start + len(part)] = part
        start += len(part)
    level = 10 * np.log10(power + 10 ** (_FLOOR_DB / 10))
    return Loudness(level, _articulation(level, fps), find_silence(level, fps))


def _band_power(waveform: Waveform, fps: Fraction, frames: int) -> Iterator[np.ndarray]:
    """Mean square of the band in each frame that the sound covers whole, in blocks."""
    sections = butter(_ORDER, _BAND_HZ, "bandpass", fs=SAMPLE_RATE, output="sos")
    state = np.zeros((len(sections), 2))
    whole = min(frames, int(len(waveform) * fps / SAMPLE_RATE))
    for first in range(0, whole, _FRAMES_AT_ONCE):
        count = min(_FRAMES_AT_ONCE, whole - first)
        edges = np.array([int((first + i) * SAMPLE_RATE / fps) for i in range(count + 1)])
        samples = waveform.read(int(edges[0]), int(edges[-1])).astype(np.float64)
        band, state = sosfilt(sections, samples, zi=state)
        yield np.add.reduceat(band**2, edges[:-1] - edges[0]) / np.diff(edges)


def _articulation(level: np.ndarray, fps: Fraction) -> np.ndarray:
    heard = np.isfinite(level)
    articulation = np.full(len(level), np.nan)
    if heard.any():
        loud = level[heard]
        scaled = np.clip((loud - loud.max()) / _RANGE_DB + 1, 0, 1)
        half = int(_SMOOTHING_SECONDS * fps / 2 + Fraction(1, 2))
        window = np.hanning(2 * half + 3)[1:-1]
        padded = np.pad(scaled, half, mode="edge")
        articulation[heard] = np.convolve(padded, window / window.sum(), mode="valid")
    return articulation


def find_silence(level: np.ndarray, fps: Fraction) -> np.ndarray:
    """bool ``[N]``: frames well inside a pause of the voice.

    A pause is 0.3 s or more in which ``level`` is 35 dB below the loud parts (the 95th percentile) or below -60 dB of
    full scale. Its first and last 0.1 s, where it borders on sound, are left out: lips move ahead of the voice.
    """
    heard = np.isfinite(level)
    silent = np.zeros(len(level), bool)
    if not heard.any():
        return silent
    limit = max(float(np.percentile(level[heard], 95)) - _QUIET_DB, _INAUDIBLE_DB)
    end = int(np.flatnonzero(heard)[-1]) + 1
    lips = int(_LIP_SECONDS * fps + Fraction(1, 2))
    for first, stop in runs(heard & (level < limit)):
        if stop - first >= _MIN_SILENCE_SECONDS * fps:
            silent[first + (lips if first > 0 else 0) : stop - (lips if stop < end else 0)] = True
    return silent


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True in bool ``[N]``, as (first, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
