"""Whether the face still looks like that of the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..face.appearance import describe
from ..face.sources import FaceObservation
from ..face.track import FaceTrack
from .mouth import usable

# A picture uint8 RGB [H, W, 3] and the face in it, to a vector [D] of length 1 (or all zeros for "cannot tell").
Embedding = Callable[[np.ndarray, FaceObservation], np.ndarray]


@dataclass(frozen=True)
class Likeness:
    """Cosine similarity, -1..1, of the face in frames of the same index.

    measure: ``appearance``, the built-in coarse colour pattern of the upper face, which is **not** a biometric and
    hardly sees the mouth; or ``embedding`` where the caller brought a recognition network. frames: how many were
    compared. mean, least: over them.
    """

    measure: str
    frames: int
    mean: float
    least: float


class LikenessMeter:
    """Takes pairs of frames one by one."""

    def __init__(self, first: FaceTrack, second: FaceTrack, embedding: Embedding | None = None) -> None:
        self._tracks = first, second
        self._measure = "appearance" if embedding is None else "embedding"
        self._embed = embedding or describe
        count = min(len(first), len(second))
        self._both = usable(first)[:count] & usable(second)[:count]
        self._values: list[float] = []

    def update(self, index: int, first: np.ndarray, second: np.ndarray) -> None:
        """Compare frame ``index`` of both clips, uint8 RGB ``[H, W, 3]``."""
        if not self._both[index]:
            return
        vectors = []
        for frame, track in zip((first, second), self._tracks, strict=True):
            assert track.landmarks is not None
            face = FaceObservation(landmarks=track.landmarks[index], score=float(track.scores[index]))
            vectors.append(np.asarray(self._embed(frame, face), np.float64).ravel())
        if all(vector.any() for vector in vectors):
            self._values.append(float(np.clip(vectors[0] @ vectors[1], -1, 1)))

    def result(self) -> Likeness | None:
        """None where no frame showed a face in both clips."""
        if not self._values:
            return None
        return Likeness(self._measure, len(self._values), float(np.mean(self._values)), float(np.min(self._values)))
