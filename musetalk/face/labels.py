"""A face-parsing label map drawn from the mesh: the built-in stand-in for the parsing network."""

from __future__ import annotations

import cv2
import numpy as np

# 19-class labels of the parsing network, and the mesh outlines that stand for them in painting order.
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

_REGIONS = (
    (1, _OVAL),
    (2, _RIGHT_BROW),
    (3, _LEFT_BROW),
    (4, _RIGHT_EYE),
    (5, _LEFT_EYE),
    (10, _NOSE),
    (12, _LIPS),
    (11, _INNER_MOUTH),
)


def draw_labels(mesh: np.ndarray, crop_box: tuple[int, int, int, int], size: int = 512) -> np.ndarray:
    """Label map uint8 ``[size, size]`` of ``crop_box`` (x0, y0, x1, y1 in the picture, which it may leave).

    mesh: ``[468, 2 or 3]`` face-mesh points in picture pixels, finite.
    Labels: 0 none, 1 skin, 2 and 3 brows, 4 and 5 eyes, 10 nose, 11 inner mouth, 12 both lips.
    The oval does not see hair, hands or glasses over the face, and ends at the chin bone.
    """
    x0, y0, x1, y1 = crop_box
    scale = np.array([size / (x1 - x0), size / (y1 - y0)], np.float32)
    points = np.round((np.asarray(mesh, np.float32)[:, :2] - [x0, y0]) * scale).astype(np.int32)
    labels = np.zeros((size, size), np.uint8)
    for label, outline in _REGIONS:
        cv2.fillPoly(labels, [points[list(outline)]], label)
    return labels
