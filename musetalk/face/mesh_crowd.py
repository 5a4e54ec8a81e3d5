"""Every face of a clip with the built-in networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .landmarks68 import to_68
from .mesh import FaceMesh
from .roi import Roi
from .sources import FaceObservation, TrackRequest


def observe_crowd(
    mesh: FaceMesh, frames: Iterator[np.ndarray], request: TrackRequest
) -> Iterator[list[FaceObservation]]:
    """Every usable face of each frame."""
    for frame in frames:
        faces = []
        for detection in mesh.detect(frame, request.min_score):
            points, score = mesh.landmarks(frame, detection.roi)
            points, score = mesh.landmarks(frame, Roi.around_mesh(points))
            if score >= request.min_score:
                faces.append(FaceObservation(landmarks=to_68(points), mesh=points[:, :2], score=score))
        yield faces
