"""How much a mouth moves, overall and while the sound is silent."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .mouth import MouthSeries

# A mouth whose opening spreads less than this is still: 1.2% of the distance between the eyes is 0.75 mm on an adult.
_STILL = 0.012
# So is one that spreads no more than the landmarks shake.
_STILL_NOISES = 4.0
_MIN_FRAMES = 5


@dataclass(frozen=True)
class MouthMotion:
    """Motion of a mouth's opening, in distances between the eyes.

    frames: how many were measured. mean, std: of the opening. variation: the way the opening goes up and down, per
    second. width_std: of the mouth's width. still: whether ``std`` is below ``still_below``, the larger of a fixed
    limit and four times the landmarks' own jitter.
    """

    frames: int
    mean: float
    std: float
    variation: float
    width_std: float
    still: bool
    still_below: float


def measure_motion(mouth: MouthSeries, fps: Fraction, where: np.ndarray | None = None) -> MouthMotion | None:
    """The motion over the frames ``where`` (bool ``[M]``, all by default) that show a mouth; None for under 5."""
    known = mouth.known if where is None else mouth.known & where
    if known.sum() < _MIN_FRAMES:
        return None
    opening = mouth.opening[known]
    # A step counts only between two frames that follow each other.
    steps = np.abs(np.diff(mouth.opening))[known[:-1] & known[1:]]
    limit = max(_STILL, _STILL_NOISES * mouth.noise)
    return MouthMotion(
        frames=len(opening),
        mean=float(opening.mean()),
        std=float(opening.std()),
        variation=float(steps.mean() * fps) if len(steps) else 0.0,
        width_std=float(mouth.width[known].std()),
        still=bool(opening.std() < limit),
        still_below=limit,
    )
