"""What a landmark source saw of one person, frame by frame, before anything is decided about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sources import FaceObservation


@dataclass
class Sightings:
    """One person over the ``M`` frames of a clip; index ``i`` is always frame ``i``.

    landmarks: float32 ``[M, 68, 2]`` iBUG points in pixels, NaN where unknown; None when there are none at all.
    mesh: float32 ``[M, 468, 2]`` in pixels, likewise.
    boxes: float64 ``[M, 4]`` x0 y0 x1 y1, what the source gave besides or instead of landmarks; NaN where nothing.
    scores: float32 ``[M]`` presence 0..1, 0 where the person was not seen.
    cuts: ascending frames, from 1 on, that begin a new shot as far as known; nothing is carried over them.
    """

    landmarks: np.ndarray | None
    mesh: np.ndarray | None
    boxes: np.ndarray
    scores: np.ndarray
    cuts: tuple[int, ...] = ()

    @classmethod
    def empty(cls, count: int, cuts: tuple[int, ...] = ()) -> Sightings:
        """Nobody seen in ``count`` frames, to be filled by :meth:`add`."""
        return cls(None, None, np.full((count, 4), np.nan), np.zeros(count, np.float32), cuts)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def seen(self) -> np.ndarray:
        """bool ``[M]``: frames with landmarks or a box."""
        seen = np.isfinite(self.boxes).all(axis=1)
        return seen if self.landmarks is None else seen | np.isfinite(self.landmarks).all(axis=(1, 2))

    def add(self, index: int, observation: FaceObservation) -> None:
        """Put what was seen in frame ``index`` in its place."""
        self.landmarks = _with_row(self.landmarks, observation.landmarks, index, len(self))
        self.mesh = _with_row(self.mesh, observation.mesh, index, len(self))
        if observation.box is not None:
            self.boxes[index] = observation.box
        self.scores[index] = observation.score


def _with_row(rows: np.ndarray | None, row: np.ndarray | None, index: int, count: int) -> np.ndarray | None:
    """``rows`` with one row set: float32 ``[count, ...]``, NaN elsewhere, made with the first row."""
    if row is None:
        return rows
    if rows is None:
        rows = np.full((count, *row.shape), np.nan, np.float32)
    rows[index] = row
    return rows
