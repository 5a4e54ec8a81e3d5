"""Follow one face from frame to frame with the mesh network, and do not change to another person nearby."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .mesh import FaceMesh
from .mesh_finder import MIN_OVERLAP, STEADY_OVERLAP, Found, MeshFinder
from .roi import Roi, mesh_box
from .sources import Select
from .views import around

# How far from its last place a lost face may be found, in box widths: the first just after it was lost, the
# second at the end of the patience; and how much it may have grown or shrunk.
_REACH = (0.5, 1.0)
_MAX_RATIO = 2.0
_PATIENCE_SECONDS = 1


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
        self._finder = MeshFinder(mesh, min_score=min_score, fps=fps)
        self._select = select
        self._patience = math.ceil(_PATIENCE_SECONDS * fps)
        self._still = still
        self._last: np.ndarray | None = None
        self._missed = 0

    def step(self, rgb: np.ndarray) -> Found | None:
        """The face in the next frame: its mesh float32 ``[468, 3]`` and its presence 0..1."""
        if self._still:
            self._finder.restart()
        self._finder.next_frame()
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
        ((found, overlap),) = self._finder.follow(rgb, [self._last])
        if overlap >= STEADY_OVERLAP:
            return found
        fresh = self._again(rgb, self._last)
        return found if fresh is None and overlap >= MIN_OVERLAP else fresh

    def _first(self, rgb: np.ndarray) -> Found | None:
        if isinstance(self._select, str):
            return self._pick(rgb, lambda box: -float(_extent(box).prod()))
        point = np.array(self._select)
        # The person pointed at may be small beside one whom the first look finds.
        return self._pick(rgb, lambda box: _distance(box, point), closely=True)

    def _pick(self, rgb: np.ndarray, order: Callable[[np.ndarray], Any], *, closely: bool = False) -> Found | None:
        """The first detection, by ``order`` of its box, in which the mesh sees a face too.

        The picture is looked at as a whole; in tiles only where that shows no face, or at once if ``closely``; and
        turned where those show none either.
        """
        finder = self._finder
        for look in (
            (finder.scan, finder.scan_sideways) if closely else (finder.glance, finder.scan, finder.scan_sideways)
        ):
            for detection in sorted(look(rgb), key=lambda detection: order(detection.box)):
                found = finder.settle(rgb, [detection])
                if found:
                    return found[0]
        return None

    def _again(self, rgb: np.ndarray, last: np.ndarray) -> Found | None:
        """Look around the last place; after long enough, anywhere, taking the face most like the lost one."""
        box = mesh_box(last)
        reach = float(np.interp(self._missed / self._patience, (0, 1), _REACH))
        view = around(Roi.around_mesh(last), float(_extent(box).max()) * (2 * reach + _MAX_RATIO))
        near = self._finder.look(rgb, [view])
        for detection in sorted(near, key=lambda d: _difference(d.box, box)):
            for found in self._finder.settle(rgb, [detection]):
                if _is_same(mesh_box(found[0]), box, reach):
                    return found
        if self._missed < self._patience:
            return None
        return self._pick(rgb, lambda other: _difference(other, box))


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
