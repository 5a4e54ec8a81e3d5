"""A smooth warp of a whole picture that carries points and lines along."""

from __future__ import annotations

import cv2
import numpy as np

from .still import SIZE

_COARSE = 5
_STEPS = 12


class Bend:
    """Pixel q of the bent picture comes from q + field(q) of the flat one; the field is smooth and does not fold."""

    def __init__(self, field: np.ndarray) -> None:
        """field: float32 ``[256, 256, 2]``, columns and rows; its slopes must stay well below 1."""
        self._field = field

    @classmethod
    def random(cls, rng: np.random.Generator, amount: float) -> Bend:
        """amount: standard deviation of the displacements in pixels, at most about 8."""
        coarse = rng.normal(0, amount, (_COARSE, _COARSE, 2)).clip(-2 * amount, 2 * amount)
        return cls(cv2.resize(coarse.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))

    def image(self, image: np.ndarray) -> np.ndarray:
        """A picture, uint8 ``[256, 256, 3]``, bent."""
        columns, rows = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
        map_x, map_y = columns + self._field[..., 0], rows + self._field[..., 1]
        return cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Where points ``[n, 2]`` of the flat picture are in the bent one, float32 ``[n, 2]``."""
        flat = np.asarray(points, np.float32)
        bent = flat.copy()
        for _ in range(_STEPS):  # each step is a contraction, since the field's slopes are below 1
            inside = np.clip(bent, 0, SIZE - 1)
            moved = cv2.remap(self._field, inside[:, :1].copy(), inside[:, 1:].copy(), cv2.INTER_LINEAR)
            bent = flat - moved.reshape(-1, 2)
        return bent

    def line(self, rows: np.ndarray) -> np.ndarray:
        """A line given as a row per column, ``[256]``, bent; float32 ``[256]``."""
        columns = np.arange(SIZE, dtype=np.float32)
        bent = self.points(np.column_stack([columns, rows]))
        return np.interp(columns, bent[:, 0], bent[:, 1]).astype(np.float32)
