"""The built-in landmark source."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .mesh import FaceMesh
from .mesh_crowd import observation, observe_crowd
from .mesh_tracker import MeshTracker
from .sources import FaceObservation, TrackRequest


class MeshLandmarks:
    """The built-in source: BlazeFace and the 468-point mesh, following one person."""

    name = "facemesh"

    def __init__(self, mesh: FaceMesh | None = None) -> None:
        self._mesh = mesh

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        if self._mesh is None:
            self._mesh = FaceMesh.load()
        tracker = MeshTracker(
            self._mesh,
            select=request.select,
            min_score=request.min_score,
            fps=request.fps,
            still=request.still,
        )
        for frame in frames:
            found = tracker.step(frame)
            yield FaceObservation() if found is None else observation(*found)

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        if self._mesh is None:
            self._mesh = FaceMesh.load()
        return observe_crowd(self._mesh, frames, request)
