"""From a label map to the soft mask of a blending crop (spec sections 6.1 and 6.2)."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from ..profile import Profile
from .boxes import Box
from .labels import INNER_MOUTH, LABEL_GRID, LOWER_LIP, NECK, NOSE, SKIN, UPPER_LIP


def hard_mask(labels: np.ndarray, profile: Profile) -> np.ndarray:
    """Label map, uint8 ``[512, 512]``, to a 0/255 mask of the same size by the profile's parsing mode."""
    mouth = np.isin(labels, (INNER_MOUTH, UPPER_LIP, LOWER_LIP))
    skin = labels == SKIN
    if profile.parsing_mode == "raw":
        kept = skin | mouth
    elif profile.parsing_mode == "neck":
        kept = skin | mouth | (labels == NECK)
    else:
        kept = (_jaw_skin(skin, profile.left_cheek_width, profile.right_cheek_width) & (labels != NOSE)) | mouth
    return kept.astype(np.uint8) * 255


def _jaw_skin(skin: np.ndarray, left_cheek_width: int, right_cheek_width: int) -> np.ndarray:
    """Skin grown up and down in the middle columns, and trimmed at the cheeks outside them."""
    grown = cv2.dilate(skin.astype(np.uint8), _cone_kernel())
    trimmed = cv2.erode(grown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (35, 3)), iterations=2)
    middle = LABEL_GRID // 2
    kept = trimmed.copy()
    # Upstream's rectangles include both end points, hence the + 1 on the left and none on the right.
    columns = slice(middle - left_cheek_width + 1, middle + right_cheek_width)
    kept[:, columns] = grown[:, columns]
    return kept.astype(bool)


@lru_cache(maxsize=1)
def _cone_kernel() -> np.ndarray:
    """A 33 x 33 cone: rows 10 to 20 widen from 1 to 21, rows 21 to 32 stay 21 wide."""
    kernel = np.zeros((33, 33), dtype=np.uint8)
    for row in range(10, 33):
        reach = min(row, 20) - 10
        kernel[row, 16 - reach : 16 + reach + 1] = 1
    return kernel


def soft_mask(hard: np.ndarray, box: Box, crop: Box, profile: Profile) -> np.ndarray:
    """A 0/255 mask on the label grid to the blurred mask of the whole blending crop, uint8 ``[2s, 2s]``."""
    side = crop[2] - crop[0]
    sized = np.asarray(Image.fromarray(hard).resize((side, side)))  # Pillow's default for masks is bicubic
    return soften(sized, box, crop, profile)


def soften(sized: np.ndarray, box: Box, crop: Box, profile: Profile) -> np.ndarray:
    """A mask of the whole blending crop, uint8 ``[2s, 2s]``, cut to what may be redrawn and blurred.

    Only the face box's part below the upper boundary is kept, then blurred; the blur leaks a little past both.
    """
    cut = keep_lower_face(sized, box, crop, profile.upper_boundary_ratio)
    kernel = int(((profile.blur_ratio * len(sized)) // 2) * 2) + 1
    return cv2.GaussianBlur(cut, (kernel, kernel), 0)


def keep_lower_face(sized: np.ndarray, box: Box, crop: Box, upper_boundary_ratio: float) -> np.ndarray:
    """The mask before blurring: zero outside the face box and above the boundary row."""
    top = max(box[1] - crop[1], int(len(sized) * upper_boundary_ratio))
    rows, columns = slice(top, box[3] - crop[1]), slice(box[0] - crop[0], box[2] - crop[0])
    cut = np.zeros_like(sized)
    cut[rows, columns] = sized[rows, columns]
    return cut
