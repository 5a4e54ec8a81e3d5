"""What the face detector's raw answers mean (BlazeFace short-range, as in MediaPipe 0.10.21)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .roi import Roi

SIZE = 128
MOST_FACES = 64
"""No more than this many are found in a picture: it bounds the work that noise makes under a very low least score."""

_MERGE_IOU = 0.3


@dataclass(frozen=True)
class FaceDetection:
    """One face: score 0..1, box float32 ``[4]`` xyxy and key points float32 ``[6, 2]`` in picture pixels.

    Key points: right eye, left eye, nose tip, mouth, right ear, left ear (the person's right and left).
    """

    score: float
    box: np.ndarray
    keypoints: np.ndarray

    @property
    def roi(self) -> Roi:
        """Where the mesh network has to look."""
        return Roi.around_box(self.box, self.keypoints[0], self.keypoints[1])


def anchor_centres() -> np.ndarray:
    """float32 ``[896, 2]`` in 0..1: two anchors per cell at stride 8, six per cell at stride 16."""
    centres = []
    for stride, per_cell in ((8, 2), (16, 6)):
        cells = SIZE // stride
        y, x = np.mgrid[0:cells, 0:cells]
        grid = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        centres.append(grid.repeat(per_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


def decode(values: np.ndarray, anchors: np.ndarray, view: Roi) -> np.ndarray:
    """Raw regression ``[N, 16]`` to picture pixels ``[N, 8, 2]``: two box corners, six key points.

    In a turned view the box keeps its sides and is turned back about its centre by quarters.
    """
    raw = values.reshape(-1, 8, 2) / SIZE
    centre = raw[:, :1] + anchors[:, None]
    half = np.abs(view.turn(raw[:, 1:2] / 2)) * view.side
    middle = view.place(centre)
    return np.concatenate([middle - half, middle + half, view.place(raw[:, 2:] + anchors[:, None])], axis=1)


def merge(points: np.ndarray, scores: np.ndarray) -> list[FaceDetection]:
    """Weighted non-maximum suppression as in MediaPipe: what overlaps becomes its score-weighted mean.

    points: ``[N, 8, 2]`` from :func:`decode`, all seen in the same turn. Best score first, at most ``MOST_FACES``.
    """
    order = np.argsort(-scores, kind="stable")
    points, scores = points[order], scores[order]
    found: list[FaceDetection] = []
    while len(scores) and len(found) < MOST_FACES:
        same = iou(points[0, :2].reshape(4), points[:, :2].reshape(-1, 4)) > _MERGE_IOU
        same[0] = True  # also when its own box is empty
        mean = np.average(points[same], axis=0, weights=scores[same]).astype(np.float32)
        found.append(FaceDetection(float(scores[0]), mean[:2].reshape(4), mean[2:]))
        points, scores = points[~same], scores[~same]
    return found


def best(detections: Sequence[FaceDetection]) -> list[FaceDetection]:
    """Of those that overlap, seen in different turns, the best; best score first, at most ``MOST_FACES``."""
    kept: list[FaceDetection] = []
    for detection in sorted(detections, key=lambda d: -d.score):
        if not kept or iou(detection.box, np.stack([k.box for k in kept])).max() <= _MERGE_IOU:
            kept.append(detection)
    return kept[:MOST_FACES]


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of xyxy ``[4]`` with each of ``[N, 4]``."""
    overlap = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return overlap / np.maximum((box[2:] - box[:2]).prod() + areas - overlap, np.finfo(np.float32).tiny)
