"""Which frames are redrawn, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..profile import Profile
from .track import PassThrough


@dataclass(frozen=True)
class Verdict:
    """``confidence``, ``valid``, ``weights`` and ``passed`` of a FaceTrack."""

    confidence: np.ndarray
    valid: np.ndarray
    weights: np.ndarray
    passed: tuple[PassThrough, ...]


def judge(
    seen: np.ndarray,
    scores: np.ndarray,
    pose: np.ndarray | None,
    covered: np.ndarray | None,
    profile: Profile,
    fps: Fraction,
) -> Verdict:
    """seen: bool ``[M]``, a usable box. pose: degrees ``[M, 3]``. covered: part of the mouth region ``[M]``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]]).astype(np.int8)))
    passed = tuple(PassThrough(int(a), int(b) - 1, "no face") for a, b in edges.reshape(-1, 2))
    return Verdict(np.where(seen, scores, 0).astype(np.float32), seen, seen.astype(np.float32), passed)
