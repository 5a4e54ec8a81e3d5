"""Follow one face from frame to frame with the mesh network, and do not change to another person nearby."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .mesh import FaceDetection, FaceMesh, iou
from .roi import Roi, mesh_box
from .sources import Select

# How far from its last place a lost face may be found, in box widths: the first just after it was lost, the
# second at the end of the patience; and how much it may have grown or shrunk.
_REACH = (0.5, 1.0)
_MAX_RATIO = 2.0
# Overlap (IoU) of the mesh in neighbouring frames. Below the first, a cut or a fast move: the network leans
# to its old place and size, and a new detection does better. Below the second, it has slid onto something
# else.
_STEADY_OVERLAP = 0.85
_MIN_OVERLAP = 0.5
_PATIENCE_SECONDS = 1

Found = tuple[np.ndarray, float]


class MeshTracker:
    """One person's mesh over consecutive frames.

    select: ``"largest"`` or a point (x, y) in pixels: which face to take in the first frame that shows one.
    min_score: the least detection score and mesh presence of a face.
    still: every frame is a picture of its own, with ``select`` applied anew and no memory of the one before.
    """

    def __init__(
        self,
        mesh: FaceMesh,
        *,
        select: Select,
        min_score: float,
        fps: Fraction,
        still: bool,
    ) -> None:
        self._mesh = mesh
        self._select = select
        self._min_score = min_score
        self._patience = math.ceil(_PATIENCE_SECONDS * fps)
        self._still = still
        self._last: np.ndarray | None = None
        self._missed = 0

    def step(self, rgb: np.ndarray) -> Found | None:
        """The face in the next frame: its mesh float32 ``[468, 3]`` and its presence 0..1."""
        found = self._find(rgb)
        if found is None:
            self._missed += 1
            return None
        self._missed = 0
        if not self._still:
            self._last = found[0]
        return found

    def _find(self, rgb: np.ndarray) -> Found | None:
        if self._last is None:
            return self._first(rgb)
        if self._missed:
            return self._again(rgb, self._last)
        found = self._look(rgb, Roi.around_mesh(self._last))
        overlap = 0.0 if found is None else iou(mesh_box(found[0]), mesh_box(self._last)[None])[0]
        if overlap >= _STEADY_OVERLAP:
            return found
        fresh = self._again(rgb, self._last)
        return found if fresh is None and overlap >= _MIN_OVERLAP else fresh

    def _first(self, rgb: np.ndarray) -> Found | None:
        if isinstance(self._select, str):
            return self._pick(rgb, lambda box: -float(_extent(box).prod()))
        point = np.array(self._select)
        # The person pointed at may be small beside one whom the first look finds.
        return self._pick(rgb, lambda box: _distance(box, point), every_tiling=True)

    def _pick(self, rgb: np.ndarray, order: Callable[[np.ndarray], Any], *, every_tiling: bool = False) -> Found | None:
        """The first detection, by ``order`` of its box, in which the mesh sees a face too."""
        detections = self._mesh.detect(rgb, self._min_score, every_tiling=every_tiling)
        detections.sort(key=lambda detection: order(detection.box))
        found = next((f for f in (self._settle(rgb, d) for d in detections) if f is not None), None)
        if found is None and detections and not every_tiling:
            # What was found is no face, or too coarsely placed: tiles see it closer.
            return self._pick(rgb, order, every_tiling=True)
        return found

    def _again(self, rgb: np.ndarray, last: np.ndarray) -> Found | None:
        """Look around the last place; after long enough, anywhere, taking the face most like the lost one."""
        box = mesh_box(last)
        reach = float(np.interp(self._missed / self._patience, (0, 1), _REACH))
        near = self._mesh.detect_near(rgb, box, reach + _MAX_RATIO / 2, self._min_score)
        for detection in sorted(near, key=lambda d: _difference(d.box, box)):
            found = self._settle(rgb, detection)
            if found is not None and _is_same(mesh_box(found[0]), box, reach):
                return found
        if self._missed < self._patience:
            return None
        return self._pick(rgb, lambda other: _difference(other, box))

    def _settle(self, rgb: np.ndarray, detection: FaceDetection) -> Found | None:
        """A first mesh, then one more from the place the first gives: the framing that tracking will keep."""
        rough = self._look(rgb, detection.roi)
        return None if rough is None else self._look(rgb, Roi.around_mesh(rough[0]))

    def _look(self, rgb: np.ndarray, roi: Roi) -> Found | None:
        points, presence = self._mesh.landmarks(rgb, roi)
        return (points, presence) if presence >= self._min_score else None


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def _extent(box: np.ndarray) -> np.ndarray:
    return box[2:] - box[:2]


def _moved(box: np.ndarray, last: np.ndarray) -> float:
    """Distance of the centres in widths of the last box."""
    return float(np.linalg.norm(_centre(box) - _centre(last)) / max(_extent(last)[0], 1.0))


def _grown(box: np.ndarray, last: np.ndarray) -> float:
    """Size ratio, always at least 1."""
    ratio = float(_extent(box).max() / max(_extent(last).max(), 1.0))
    return max(ratio, 1 / max(ratio, 1e-9))


def _is_same(box: np.ndarray, last: np.ndarray, reach: float) -> bool:
    return _moved(box, last) <= reach and _grown(box, last) <= _MAX_RATIO


def _difference(box: np.ndarray, last: np.ndarray) -> float:
    """How unlike the lost face: one box width of distance weighs as much as twice the size."""
    return _moved(box, last) + math.log2(_grown(box, last))


def _distance(box: np.ndarray, point: np.ndarray) -> tuple[float, float]:
    """How far a point is from a box (0 inside it), then from its centre."""
    outside = np.clip(np.maximum(box[:2] - point, point - box[2:]), 0, None)
    return float(np.linalg.norm(outside)), float(np.linalg.norm(_centre(box) - point))
