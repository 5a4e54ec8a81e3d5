"""The faces of everybody else, as something that stands in front of the one that is redrawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .follow import extent
from .mattes import Mattes
from .people import Person
from .sources import FaceObservation

# Points lie on the face's edge, and the blur of a mask reaches a little past it.
_GROWTH = 1.15


class OtherFaces(Mattes):
    """White where a face of ``people`` is seen, and where ``occluder``, if there is one, is white.

    A speaker's mask must not touch the face of another person who passes close by.
    """

    def __init__(self, people: Sequence[Person], size: tuple[int, int], occluder: Mattes | None = None) -> None:
        """size: width and height of the footage, which is the size of what is read."""
        self._people = list(people)
        self._picture = size
        self._occluder = None if occluder is None else occluder.at_size(size)

    def at_size(self, size: tuple[int, int]) -> OtherFaces:
        return self

    def read(self, indices: Sequence[int]) -> np.ndarray:
        return np.stack([self._of_frame(int(index)) for index in indices])

    def _of_frame(self, index: int) -> np.ndarray:
        width, height = self._picture
        if self._occluder is None:
            matte = np.zeros((height, width), np.uint8)
        else:
            matte = self._occluder.read([index])[0].copy()
        for person in self._people:
            face = person.at(index)
            if face is not None:
                cv2.fillConvexPoly(matte, _outline(face), 255)
        return matte


def _outline(face: FaceObservation) -> np.ndarray:
    """The hull of what is known of a face, grown a little: int32 ``[K, 1, 2]``."""
    if face.mesh is not None:
        points = face.mesh
    elif face.landmarks is not None:
        points = _with_forehead(face.landmarks)
    else:
        x0, y0, x1, y1 = extent(face)
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    centre = points.mean(axis=0)
    return cv2.convexHull(np.round(centre + (points - centre) * _GROWTH).astype(np.int32))


def _with_forehead(landmarks: np.ndarray) -> np.ndarray:
    """68 landmarks, which end at the brows, and a forehead half as high as the face below it."""
    brows, chin = landmarks[17:27], landmarks[8]
    up = (brows.mean(axis=0) - chin) * 0.5
    return np.concatenate([landmarks, brows + up])
