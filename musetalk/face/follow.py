"""Follow one face through lists of all faces, by place alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .sources import FaceObservation, Select, TrackRequest

# A lost face may be found so many of its sides from its last place, and grown or shrunk so much, while it is new.
_REACH, _MAX_RATIO = 1.0, 2.0
_PATIENCE_SECONDS = 1


def follow(frames: Iterable[Sequence[FaceObservation]], request: TrackRequest) -> Iterator[FaceObservation]:
    """One face per frame: the selected one of the first frame that has any, then the one most like it in place.

    frames: the faces of each frame. For a second after the face is lost only one near its last place, and of a similar
    size, is taken for it; after that the nearest. A frame without it gives an empty observation.
    """
    patience = math.ceil(_PATIENCE_SECONDS * request.fps)
    last: np.ndarray | None = None
    missed = 0
    for faces in frames:
        extents = [extent(face) for face in faces]
        if last is None or request.still:
            best = _first(extents, request.select)
        else:
            best = _next(extents, last, anywhere=missed >= patience)
        missed = 0 if best is not None else missed + 1
        if best is not None:
            last = extents[best]
        yield FaceObservation() if best is None else faces[best]


def _first(extents: Sequence[np.ndarray], select: Select) -> int | None:
    if not extents:
        return None
    if isinstance(select, str):
        return int(np.argmax([(box[2:] - box[:2]).prod() for box in extents]))
    return int(np.argmin([np.linalg.norm(_centre(box) - np.array(select)) for box in extents]))


def _next(extents: Sequence[np.ndarray], last: np.ndarray, *, anywhere: bool) -> int | None:
    """The face nearest to the last place; None where none can be the same and ``anywhere`` does not allow others."""
    side = max(float((last[2:] - last[:2]).max()), 1.0)
    distances = [float(np.linalg.norm(_centre(box) - _centre(last))) / side for box in extents]
    growths = [max(float((box[2:] - box[:2]).max()), 1.0) / side for box in extents]
    possible = [
        i
        for i in range(len(extents))
        if anywhere or (distances[i] <= _REACH and 1 / _MAX_RATIO <= growths[i] <= _MAX_RATIO)
    ]
    return min(possible, key=distances.__getitem__) if possible else None


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def extent(face: FaceObservation) -> np.ndarray:
    """Where a face is: float64 xyxy ``[4]`` around its landmarks, or its box."""
    if face.landmarks is None:
        assert face.box is not None
        return np.array(face.box, np.float64)
    return np.concatenate([face.landmarks.min(axis=0), face.landmarks.max(axis=0)]).astype(np.float64)
