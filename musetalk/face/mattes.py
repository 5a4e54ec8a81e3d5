"""Masks that other programs made: what may be redrawn, and what stands in front of the face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Mattes:
    """One grey picture per frame, or one for all."""

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 ``[n, H, W]``, at the size of the footage."""
        raise NotImplementedError


def covered(occluder: Mattes, boxes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The part of the mouth region that the occluder covers, float32 ``[M]`` in 0..1."""
    raise NotImplementedError
