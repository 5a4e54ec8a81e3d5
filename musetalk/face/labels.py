"""Face-parsing label maps that are drawn: from the mesh, from 68 landmarks, or as an oval."""

from __future__ import annotations

import cv2
import numpy as np

LABEL_GRID = 512

# Of the parsing network's 19 classes.
SKIN, RIGHT_BROW, LEFT_BROW, RIGHT_EYE, LEFT_EYE, NOSE = 1, 2, 3, 4, 5, 10
INNER_MOUTH, UPPER_LIP, LOWER_LIP, NECK = 11, 12, 13, 14

# The mesh outlines that stand for the classes.
_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
_LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
_RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
_LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
_NOSE = (168, 122, 174, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 399, 351)
_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_INNER_MOUTH = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)

# In painting order.
_REGIONS = (
    (SKIN, _OVAL),
    (RIGHT_BROW, _RIGHT_BROW),
    (LEFT_BROW, _LEFT_BROW),
    (RIGHT_EYE, _RIGHT_EYE),
    (LEFT_EYE, _LEFT_EYE),
    (NOSE, _NOSE),
    (UPPER_LIP, _LIPS),
    (INNER_MOUTH, _INNER_MOUTH),
)

_BROWS_68 = slice(17, 27)
_NOSE_BASE_68 = 33
_NOSE_68 = (27, 31, 32, 33, 34, 35)
_LIPS_68 = tuple(range(48, 60))
_INNER_MOUTH_68 = tuple(range(60, 68))
# Height of the mesh's oval over the brows, as a part of theirs over the base of the nose.
_FOREHEAD = 0.4

_Box = tuple[int, int, int, int]


def draw_labels(mesh: np.ndarray, crop_box: _Box) -> np.ndarray:
    """Label map uint8 ``[512, 512]`` of ``crop_box`` (x0, y0, x1, y1 in the picture, which it may leave).

    mesh: ``[468, 2 or 3]`` face-mesh points in picture pixels, finite.
    Labels: 0 none, 1 skin, 2 and 3 brows, 4 and 5 eyes, 10 nose, 11 inner mouth, 12 both lips.
    The oval does not see hair, hands or glasses over the face, and ends at the chin bone.
    """
    points = _on_grid(mesh, crop_box)
    labels = _empty()
    for label, outline in _REGIONS:
        cv2.fillPoly(labels, [points[list(outline)]], label)
    return labels


def draw_hull(landmarks: np.ndarray, crop_box: _Box) -> np.ndarray:
    """Label map uint8 ``[512, 512]`` from 68 landmarks, ``[68, 2]`` in picture pixels, finite.

    Skin is their convex hull, which ends at the brows, and the forehead over them; nose, lips and inner mouth are
    drawn over it.
    """
    brows = landmarks[_BROWS_68]
    forehead = brows + _FOREHEAD * (brows.mean(axis=0) - landmarks[_NOSE_BASE_68])
    points = _on_grid(landmarks, crop_box)
    labels = _empty()
    outline = cv2.convexHull(np.concatenate([points, _on_grid(forehead, crop_box)]))
    cv2.fillConvexPoly(labels, outline, SKIN)
    for label, part in ((NOSE, _NOSE_68), (UPPER_LIP, _LIPS_68), (INNER_MOUTH, _INNER_MOUTH_68)):
        cv2.fillPoly(labels, [points[list(part)]], label)
    return labels


def draw_oval(box: _Box, crop_box: _Box) -> np.ndarray:
    """Label map uint8 ``[512, 512]`` of nothing but a box of the picture: an oval of skin that fills it."""
    corners = np.array(box, np.float32).reshape(2, 2)
    centre, reach = corners.mean(axis=0, keepdims=True), (corners[1] - corners[0]) / 2
    (x, y), (right, bottom) = _on_grid(np.concatenate([centre, centre + reach]), crop_box).tolist()
    labels = _empty()
    cv2.ellipse(labels, (x, y), (right - x, bottom - y), 0, 0, 360, SKIN, cv2.FILLED)
    return labels


def _empty() -> np.ndarray:
    return np.zeros((LABEL_GRID, LABEL_GRID), np.uint8)


def _on_grid(points: np.ndarray, crop_box: _Box) -> np.ndarray:
    """Points in picture pixels, int32 on the label grid of a crop."""
    x0, y0, x1, y1 = crop_box
    scale = np.array([LABEL_GRID / (x1 - x0), LABEL_GRID / (y1 - y0)], np.float32)
    return np.round((np.asarray(points, np.float32)[:, :2] - [x0, y0]) * scale).astype(np.int32)
