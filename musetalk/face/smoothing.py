"""Landmarks over time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def smooth(points: np.ndarray, seen: np.ndarray, strength: float, fps: Fraction) -> np.ndarray:
    """Zero-phase smoothing of points ``[M, P, 2]``; rows that are not ``seen`` are left alone."""
    return points


def jitter(points: np.ndarray, seen: np.ndarray) -> float | None:
    """White-noise sigma from second differences, in pixels."""
    return None
