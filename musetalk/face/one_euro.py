"""Landmarks steadied while they come in: the One Euro filter (Casiez, Roussel and Vogel, CHI 2012)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

# At strength 1: the cutoff of a still face in Hz, and what a speed of one face size a second adds to it.
_CUTOFF, _CUTOFF_PER_SPEED = 1.5, 60.0
# Cutoff of the speed itself, in Hz.
_SPEED_CUTOFF = 1.0
# A step in face sizes that is a cut, not a motion.
_LEAP = 0.25


class OneEuro:
    """A low-pass filter for live use: it smooths a still face hard and lets a moving one through with little lag.

    strength: 0 changes nothing, 1 steadies a still face about as ``smoothing.smooth`` does at 1; up to 4.
    fps: how often it is called.

    Speeds are measured in sizes of the face (the larger side of its extent) per second, so that the resolution of the
    picture does not matter. Call it once per frame, in order.
    """

    def __init__(self, strength: float, fps: Fraction) -> None:
        self._strength = strength
        self._seconds = 1 / float(fps)
        self._last: np.ndarray | None = None
        self._raw: np.ndarray | None = None
        self._velocity: np.ndarray | None = None

    def __call__(self, points: np.ndarray | None) -> np.ndarray | None:
        """The steadied points of the next frame, like ``points`` ``[P, 2]`` in pixels.

        None, for a frame without a face, forgets the past; so does a leap that no head makes.
        """
        if points is None or self._strength <= 0:
            self._last = self._raw = self._velocity = None
            return points
        now = points.astype(np.float64)
        size = max(float(np.ptp(now, axis=0).max()), 1e-6)
        if self._last is None or self._raw is None or self._velocity is None or _leapt(now, self._raw, size):
            self._last = self._raw = now
            self._velocity = np.zeros_like(now)
            return points.copy()
        velocity = (now - self._raw) / (self._seconds * size)
        self._velocity = self._velocity + self._share(_SPEED_CUTOFF) * (velocity - self._velocity)
        speed = np.linalg.norm(self._velocity, axis=1, keepdims=True)
        cutoff = (_CUTOFF + _CUTOFF_PER_SPEED * speed) / self._strength
        self._last = self._last + self._share(cutoff) * (now - self._last)
        self._raw = now
        return self._last.astype(points.dtype)

    def _share(self, cutoff: np.ndarray | float) -> np.ndarray | float:
        """How much of the new value a first-order low-pass with this cutoff (Hz) takes."""
        return 1 / (1 + 1 / (2 * math.pi * cutoff * self._seconds))


def smooth_live(
    points: np.ndarray, seen: np.ndarray, strength: float, fps: Fraction, cuts: Sequence[int] = ()
) -> np.ndarray:
    """As ``smoothing.smooth``, with what a OneEuro filter knows: no frame depends on a later one.

    points: ``[M, P, 2]``. seen: bool ``[M]``; other rows are copied. cuts: frames at which the past is forgotten.
    """
    step, smoothed, starts = OneEuro(strength, fps), points.copy(), set(cuts)
    for i, known in enumerate(seen):
        if i in starts:
            step(None)
        row = step(points[i] if known else None)
        if row is not None:
            smoothed[i] = row
    return smoothed


def _leapt(points: np.ndarray, last: np.ndarray, size: float) -> bool:
    return float(np.linalg.norm(points - last, axis=1).mean()) > _LEAP * size
