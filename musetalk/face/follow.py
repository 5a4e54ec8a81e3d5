"""Follow one face through lists of all faces, by place alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from .sources import FaceObservation, TrackRequest


def follow(frames: Iterable[Sequence[FaceObservation]], request: TrackRequest) -> Iterator[FaceObservation]:
    """One face per frame: the selected one of the first frame that has any, then the nearest to where it was.

    frames: the faces of each frame. A frame without any gives an empty observation.
    """
    place = None if isinstance(request.select, str) else np.array(request.select, np.float64)
    for faces in frames:
        if not faces:
            yield FaceObservation()
            continue
        extents = np.stack([extent(face) for face in faces])
        centres = (extents[:, :2] + extents[:, 2:]) / 2
        if place is None:
            best = int(np.argmax((extents[:, 2:] - extents[:, :2]).prod(axis=1)))
        else:
            best = int(np.argmin(np.linalg.norm(centres - place, axis=1)))
        if not request.still:
            place = centres[best]
        yield faces[best]


def extent(face: FaceObservation) -> np.ndarray:
    """Where a face is: float64 xyxy ``[4]`` around its landmarks, or its box."""
    if face.landmarks is None:
        assert face.box is not None
        return np.array(face.box, np.float64)
    return np.concatenate([face.landmarks.min(axis=0), face.landmarks.max(axis=0)]).astype(np.float64)
