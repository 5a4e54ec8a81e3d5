"""The picture turned so that a tilted head stands upright."""

from __future__ import annotations

import numpy as np


def turns_of(landmarks: np.ndarray) -> np.ndarray:
    """Pivot and roll, float32 ``[M, 3]``, of landmarks ``[M, 68, 2]`` (see ``FaceTrack.turns``)."""
    raise NotImplementedError


def turn_points(points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Points ``[..., 2]`` of the picture, in the picture turned upright."""
    raise NotImplementedError
