"""What a face looks like, as a short vector: enough to tell the few people of one clip apart.

No face recognition network is at hand, so this is no biometric: it is the coarse colour pattern of brows, eyes,
nose, forehead, cheeks and hair line, freed of place, size, roll, brightness, contrast and overall tint. Within
one clip the same face stays alike; another pose, light, hair style or make-up costs likeness, and two people
who look much the same at sixteen pixels a side cannot be told apart by it.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .follow import extent
from .sources import FaceObservation

# Points that talking hardly moves, as groups of iBUG landmarks whose means are the anchors of the alignment: right
# and left brow, right and left eye, wings of the nose. Their places in the patch are averages over many faces.
_ANCHORS = (slice(17, 22), slice(22, 27), slice(36, 42), slice(42, 48), slice(31, 36))
_SIDE = 16
_PLACES = np.array([[0.334, 0.49], [0.666, 0.49], [0.359, 0.575], [0.641, 0.575], [0.5, 0.774]]) * _SIDE
# A box by the box rule is centred on the bridge of the nose and as wide as the jaw.
_BOX_CENTRE, _BOX_WIDTH = np.array([0.5, 0.676]) * _SIDE, 0.594 * _SIDE
# The patch is sampled this much finer and averaged, so that a large face is not read at a few single pixels.
_OVERSAMPLING = 4
# Luma is divided by its own spread, chroma by a fixed one (a face without colour must not have its noise blown
# up). Chroma counts twice: it tells people apart better than shading does.
_LEAST_SPREAD = 3.0
_CHROMA_SPREAD = 6.0
# A garish background beside the cheek must not outweigh the face.
_LIMIT = 3.0
_FLAT = 0.05  # root mean square of the pattern below which it is noise
_PORTRAIT_SIDE = 256
_PORTRAIT_CONTEXT = 1.7


def describe(rgb: np.ndarray, face: FaceObservation) -> np.ndarray:
    """A face of the picture uint8 ``[H, W, 3]`` as float32 ``[D]`` of length 1, to be compared by :func:`likeness`.

    All zeros, which is like nobody, where the face is too small or too flat to show anything.
    """
    matrix = _to_patch(face)
    if matrix is None:
        return np.zeros(3 * int(_HEAD.sum()), np.float32)
    fine = _SIDE * _OVERSAMPLING
    patch = cv2.warpAffine(
        rgb, matrix * _OVERSAMPLING, (fine, fine), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    patch = cv2.resize(patch, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[_HEAD]
    lab -= lab.mean(axis=0)
    lab = np.clip(lab / (max(float(lab[:, 0].std()), _LEAST_SPREAD), _CHROMA_SPREAD, _CHROMA_SPREAD), -_LIMIT, _LIMIT)
    pattern = ((lab - lab.mean(axis=0)) * _WEIGHTS).ravel()
    length = float(np.linalg.norm(pattern))
    flat = length < _FLAT * math.sqrt(pattern.size)
    return (np.zeros_like(pattern) if flat else pattern / length).astype(np.float32)


def likeness(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How alike faces are, -1..1: ``[N, D]`` (or ``[D]``) with ``[M, D]`` (or ``[D]``) gives ``[N, M]`` (or less).

    In one shot, faces of the same person are over 0.9 alike; in photographs taken on different days 0.7 on average,
    but less than 0.5 in one pair of four. Different people are 0.1 alike on average, over 0.5 in one pair of twenty,
    and over 0.62 in one of a hundred (16 people, 63 pictures).
    """
    return np.asarray(some @ others.T)


def portrait(rgb: np.ndarray, face: FaceObservation) -> np.ndarray:
    """The face with some room around it: uint8 ``[h, w, 3]`` cut from the picture, at most 256 pixels a side."""
    box = extent(face)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2 * _PORTRAIT_CONTEXT
    height, width = rgb.shape[:2]
    x0, y0 = np.clip(np.floor(centre - half), 0, (width - 1, height - 1)).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(centre + half), (x0 + 1, y0 + 1), (width, height)).astype(int).tolist()
    cut = rgb[y0:y1, x0:x1]
    shrink = _PORTRAIT_SIDE / max(cut.shape[:2])
    if shrink >= 1:
        return cut.copy()
    size = max(1, round(cut.shape[1] * shrink)), max(1, round(cut.shape[0] * shrink))
    return cv2.resize(cut, size, interpolation=cv2.INTER_AREA)


def view_quality(face: FaceObservation, size: tuple[int, int]) -> float:
    """How well a picture of ``size`` (width, height) shows the face: best when large, whole and frontal."""
    box = extent(face)
    whole = np.clip(box, 0, (*size, *size))
    area, shown = ((b[2:] - b[:2]).clip(0).prod() for b in (box, whole))
    side = min(float(np.sqrt(area)), float(_PORTRAIT_SIDE))
    return face.score * side * float(shown / max(area, 1.0)) * _frontal(face.landmarks)


def _frontal(landmarks: np.ndarray | None) -> float:
    """1 where the nose is midway between the sides of the jaw, towards 0 in profile."""
    if landmarks is None:
        return 1.0
    right, left = (float(np.linalg.norm(landmarks[30] - landmarks[side])) for side in (1, 15))
    return min(right, left) / max(right, left, 1e-6)


def _to_patch(face: FaceObservation) -> np.ndarray | None:
    """float64 ``[2, 3]``: picture pixels to patch cells; None where the face has no size."""
    if face.landmarks is None:
        box = extent(face)
        width = box[2] - box[0]
        if width < 1:
            return None
        turn = complex(_BOX_WIDTH / width)
        shift = complex(*_BOX_CENTRE) - turn * complex(*((box[:2] + box[2:]) / 2))
    else:
        # The similarity that brings the anchors nearest to their places; points as complex numbers.
        anchors = np.stack([face.landmarks[group].mean(axis=0) for group in _ANCHORS]).astype(np.float64)
        here, there = (points[:, 0] + 1j * points[:, 1] for points in (anchors, _PLACES))
        middle = here.mean()
        spread = float(np.vdot(here - middle, here - middle).real)
        if spread < 1:
            return None
        turn = np.vdot(here - middle, there) / spread
        shift = there.mean() - turn * middle
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _ellipse() -> np.ndarray:
    """float64 ``[side, side]``: squared distance of the cells from the middle of the head, 1 at its outline."""
    y, x = (np.mgrid[0:_SIDE, 0:_SIDE] + 0.5) / _SIDE
    return np.asarray(((x - 0.5) / 0.40) ** 2 + ((y - 0.5) / 0.56) ** 2)


_HEAD = _ellipse() <= 1
# Towards the outline there is hair, which counts less, and may be background.
_WEIGHTS = np.exp(-0.7 * _ellipse())[_HEAD][:, None]
