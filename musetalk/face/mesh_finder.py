"""From a picture to the meshes of the faces in it, without what was known before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from .blazeface import FaceDetection, iou
from .mesh import FaceMesh
from .roi import Roi, mesh_box
from .views import SIDEWAYS, looks, whole

# An upside-down face is "found" upright with a score up to 0.76, its mesh with a presence up to 1; at 90 degrees
# the roll may be 40 degrees off with 0.88. Anything below this score is looked at closer, in every turn.
_SURE_SCORE = 0.9
_CLOSER = 1.7  # sides of what the mesh network would be shown
# Overlap (IoU) of two detections of one face, and of a detection with the larger box of the face's mesh.
_SAME_FACE = 0.3
# A tile may give this part of the least score to a small face that a closer look is sure of.
_CANDIDATE = 0.6
# Every look starts from the place and roll that the one before found, until the points stand still: moved by no more
# than this part of the face's size. Two looks are enough for nearly all faces.
_LOOKS = 4
_STILL = 0.03
# The detector's and the mesh's eyes, nose and mouth are this far apart at most, in sizes of the face: 0.02 to 0.08 in
# faces, to 0.17 in those that the picture's edge cuts in half, above 0.24 where there is none.
_AGREED = 0.2
_MESH_KEYPOINTS = ((33, 133), (263, 362), (1, 1), (13, 14))
# At least this part of a mesh lies in the picture; at most that part of a doubtful one in a larger face.
_LEAST_VISIBLE = 0.4
_MOST_NESTED = 0.7
# What costs most, small candidates and all turns of all tiles, is done this often.
_SEARCHES_PER_SECOND = 2
# A detection that overlaps (IoU) one refused since the last search so much, and scores no more than this above it, is
# refused again.
_REFUSED, _BETTER = 0.5, 0.05

STEADY_OVERLAP = 0.85
"""Overlap (IoU) of a followed mesh in neighbouring frames: below it there was a cut or a fast move, the network leans
to its old place and size, and a new detection does better."""
MIN_OVERLAP = 0.5
"""Below this the network has slid onto something else."""

Found = tuple[np.ndarray, float]
"""A mesh float32 ``[468, 3]`` in picture pixels and its presence 0..1."""


class MeshFinder:
    """Detects faces in consecutive frames and makes sure of them, at a bounded cost.

    ``searching`` tells whether the present frame is one of those, two a second from the first, in which everything is
    tried. What proved to be no face is not tried again before the next of them.

    On one core a view of the detector takes 2 ms and a mesh 2 to 3 ms. A 16:9 frame in which no face is seen has 12
    views; twice a second 39, and 4 for each doubtful detection.
    """

    def __init__(self, mesh: FaceMesh, *, min_score: float, fps: Fraction) -> None:
        self._mesh = mesh
        self._min_score = min_score
        self.searching = False
        self._every = max(1, math.ceil(fps / _SEARCHES_PER_SECOND))
        self._count = 0
        self._refused: list[FaceDetection] = []

    def next_frame(self) -> None:
        """To be called before each frame."""
        self.searching = self._count % self._every == 0
        self._count += 1
        if self.searching:
            self._refused.clear()

    def restart(self) -> None:
        """Let the next frame be one of those in which everything is tried."""
        self._count = 0

    def follow(self, rgb: np.ndarray, faces: Sequence[np.ndarray]) -> list[tuple[Found, float]]:
        """Faces of the frame before in this one, and by how much (IoU) each overlaps itself; 0 where it is no face."""
        found = []
        meshes = self._mesh.meshes(rgb, [Roi.around_mesh(last) for last in faces])
        for last, points, presence in zip(faces, *meshes, strict=True):
            overlap = float(iou(mesh_box(points), mesh_box(last)[None])[0])
            found.append(((points, float(presence)), overlap if presence >= self._min_score else 0.0))
        return found

    def look(self, rgb: np.ndarray, views: Sequence[Roi]) -> list[FaceDetection]:
        """Faces in parts of the picture."""
        return self._mesh.detect_in(rgb, views, self._min_score)

    def glance(self, rgb: np.ndarray, near: Sequence[Roi] = ()) -> list[FaceDetection]:
        """Faces down to 10% of the long side of the picture, and those in the views ``near``."""
        return self.look(rgb, [whole(rgb.shape[1], rgb.shape[0]), *near])

    def scan(self, rgb: np.ndarray) -> list[FaceDetection]:
        """Faces down to 4% of the long side; down to 10% if rolled by more than 60 degrees."""
        height, width = rgb.shape[:2]
        upright = [view for views in looks(width, height) for view in views]
        rolled = [whole(width, height, turn) for turn in SIDEWAYS]
        least = self._min_score * _CANDIDATE if self.searching else self._min_score
        return self._mesh.detect_in(rgb, [*upright, *rolled], least)

    def scan_sideways(self, rgb: np.ndarray) -> list[FaceDetection]:
        """Small faces that are rolled by more than 60 degrees."""
        return self._mesh.detect(rgb, self._min_score, turns=SIDEWAYS) if self.searching else []

    def settle(
        self, rgb: np.ndarray, detections: Sequence[FaceDetection], known: Sequence[np.ndarray] = ()
    ) -> list[Found]:
        """The meshes of those detections that are faces, framed as following them from frame to frame will do.

        known: the mesh boxes (xyxy) of faces that are not looked for.
        """
        fresh = [d for d in detections if not overlaps(d.box, known, _SAME_FACE) and not self._was_refused(d)]
        closer = self._look_closer(rgb, fresh)
        meshes = self._look_until_still(rgb, closer)
        faces = [f if f and _agree(rgb, d, f[0]) else None for d, f in zip(closer, meshes, strict=True)]
        boxes = [*known, *(mesh_box(face[0]) for face in faces if face)]
        faces = [f if f and not _is_nested(d, f[0], boxes) else None for d, f in zip(closer, faces, strict=True)]
        self._refused += [d for d, face in zip(fresh, faces, strict=True) if face is None]
        return [face for face in faces if face is not None]

    def _look_until_still(self, rgb: np.ndarray, detections: Sequence[FaceDetection]) -> list[Found | None]:
        found: list[Found | None] = [None] * len(detections)
        rois = {i: detection.roi for i, detection in enumerate(detections) if detection.score >= self._min_score}
        for _ in range(_LOOKS):
            again = {}
            for i, points, presence in zip(rois, *self._mesh.meshes(rgb, list(rois.values())), strict=True):
                last, found[i] = found[i], (points, float(presence)) if presence >= self._min_score else None
                if found[i] is not None and (last is None or _moved(points, last[0]) > _STILL):
                    again[i] = Roi.around_mesh(points)
            rois = again
            if not rois:
                break
        return found

    def _was_refused(self, detection: FaceDetection) -> bool:
        rivals = [r.box for r in self._refused if detection.score < min(_SURE_SCORE, r.score + _BETTER)]
        return overlaps(detection.box, rivals, _REFUSED)

    def _look_closer(self, rgb: np.ndarray, detections: Sequence[FaceDetection]) -> list[FaceDetection]:
        """Detections of a low score exchanged for the best that is seen in their place, close and in any turn."""
        doubtful = [d.roi for d in detections if d.score < _SURE_SCORE]
        if not doubtful:
            return list(detections)
        views = [Roi(roi.cx, roi.cy, roi.side * _CLOSER, turn) for roi in doubtful for turn in (0.0, *SIDEWAYS)]
        seen = self._mesh.detect_in(rgb, views, self._min_score)

        def best(detection: FaceDetection) -> FaceDetection:
            here = [d for d in seen if iou(detection.box, d.box[None])[0] > _SAME_FACE]
            return max([detection, *here], key=lambda d: d.score)

        return [d if d.score >= _SURE_SCORE else best(d) for d in detections]


def overlaps(box: np.ndarray, others: Sequence[np.ndarray], limit: float) -> bool:
    """Whether a box (xyxy) overlaps any of the others by more than ``limit`` (IoU)."""
    return len(others) > 0 and bool((iou(box, np.stack(others)) > limit).any())


def _agree(rgb: np.ndarray, detection: FaceDetection, points: np.ndarray) -> bool:
    """Whether detector and mesh see the same face, enough of it in the picture."""
    keypoints = np.stack([points[[a, b], :2].mean(axis=0) for a, b in _MESH_KEYPOINTS])
    apart = np.linalg.norm(detection.keypoints[: len(keypoints)] - keypoints, axis=1).mean() / _size(points)
    visible = ((points[:, :2] >= 0) & (points[:, :2] < rgb.shape[1::-1])).all(axis=1).mean()
    return bool(apart <= _AGREED and visible >= _LEAST_VISIBLE)


def _is_nested(detection: FaceDetection, points: np.ndarray, boxes: Sequence[np.ndarray]) -> bool:
    """Whether a doubtful face lies in a larger one, as nostrils and mouths do."""
    if detection.score >= _SURE_SCORE:
        return False
    box, others = mesh_box(points), np.stack(boxes)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    return bool(((shared > _MOST_NESTED * area) & (areas > area)).any())


def _size(points: np.ndarray) -> float:
    return float(max(np.ptp(points[:, :2], axis=0).max(), 1.0))


def _moved(points: np.ndarray, last: np.ndarray) -> float:
    """Mean distance of the points in sizes of the face."""
    return float(np.linalg.norm(points[:, :2] - last[:, :2], axis=1).mean() / _size(last))
