"""Where the face is in every frame of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FaceTrack:
    """One person's face over the ``M`` frames of a clip; index ``i`` is always frame ``i``.

    boxes: int32 ``[M, 4]``, x0 y0 x1 y1 in pixels by the box rule, before the margin; zeros where not valid.
    valid: bool ``[M]``; a frame without a usable face is False and will pass through untouched.
    landmarks: float32 ``[M, 68, 2]`` iBUG points in pixels, NaN where unknown, or None when boxes were given.
    mesh: float32 ``[M, 468, 2]`` face-mesh points in pixels, NaN where unknown, or None when no mesh was run.
    scores: float32 ``[M]`` presence score 0..1 (1 for boxes given by the caller).
    """

    boxes: np.ndarray
    valid: np.ndarray
    landmarks: np.ndarray | None
    mesh: np.ndarray | None
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.valid)
