"""From a face-parser label map to the soft mask of the paste (spec sections 6.1 and 6.2)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from ..profile import Profile
from .boxes import Box

LABEL_GRID = 512
_SKIN, _NOSE, _NECK = 1, 10, 14
_MOUTH = (11, 12, 13)


@dataclass(frozen=True)
class PasteMask:
    """Where and how strongly one generated face is pasted into its frame.

    box: the face box the generated face is stretched over; it may leave the picture under parity.
    crop_box: the square blending crop around it, x0 y0 x1 y1; it may leave the picture.
    region: the part of the picture the mask touches, x0 y0 x1 y1; an empty region pastes nothing.
    packed: the uint8 alpha of the region, row by row, zlib-compressed (a clip holds thousands of them).
    """

    box: Box
    crop_box: Box
    region: Box
    packed: bytes

    @property
    def alpha(self) -> np.ndarray:
        """The alpha of the region, uint8 ``[h, w]``."""
        x0, y0, x1, y1 = self.region
        return np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(y1 - y0, x1 - x0)

    @classmethod
    def from_soft_mask(cls, soft: np.ndarray, box: Box, crop: Box, size: tuple[int, int]) -> PasteMask:
        """Cut a whole-crop soft mask, uint8 ``[2s, 2s]``, to what can change a picture of ``(width, height)``.

        Outside the face box the composite mixes the picture with itself, which changes no pixel.
        """
        width, height = size
        x0, y0 = max(box[0], 0), max(box[1], 0)
        x1, y1 = min(box[2], width), min(box[3], height)
        alpha = soft[y0 - crop[1] : y1 - crop[1], x0 - crop[0] : x1 - crop[0]]
        rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
        if len(rows) == 0:
            return cls(box, crop, (0, 0, 0, 0), zlib.compress(b""))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        region = (int(x0 + left), int(y0 + top), int(x0 + right), int(y0 + bottom))
        return cls(box, crop, region, zlib.compress(alpha[top:bottom, left:right].tobytes(), 1))


def paste_mask(labels: np.ndarray, box: Box, crop: Box, size: tuple[int, int], profile: Profile) -> PasteMask:
    """The paste mask of one frame from its label map.

    labels: uint8 ``[512, 512]`` classes of the blending crop. box: the face box with its extra margin. crop: the
    square of :func:`blending_crop`. size: width and height of the picture.
    """
    return PasteMask.from_soft_mask(soft_mask(hard_mask(labels, profile), box, crop, profile), box, crop, size)


def blending_crop(box: Box, expand: float) -> Box:
    """The square around a face box in which parsing and blending happen; it may leave the picture."""
    x0, y0, x1, y1 = box
    centre_x, centre_y = (x0 + x1) // 2, (y0 + y1) // 2
    half = int(max(x1 - x0, y1 - y0) // 2 * expand)
    return centre_x - half, centre_y - half, centre_x + half, centre_y + half


def crop_padded(frame: np.ndarray, box: Box) -> np.ndarray:
    """``frame[y0:y1, x0:x1]`` of a uint8 ``[H, W, 3]`` picture, black where the box leaves it."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = box
    inside = frame[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    if inside.shape[:2] == (y1 - y0, x1 - x0):
        return inside
    padded = np.zeros((y1 - y0, x1 - x0, 3), dtype=np.uint8)
    top, left = max(-y0, 0), max(-x0, 0)
    padded[top : top + min(y1, height) - max(y0, 0), left : left + min(x1, width) - max(x0, 0)] = inside
    return padded


def hard_mask(labels: np.ndarray, profile: Profile) -> np.ndarray:
    """Label map, uint8 ``[512, 512]``, to a 0/255 mask of the same size by the profile's parsing mode."""
    mouth = np.isin(labels, _MOUTH)
    skin = labels == _SKIN
    if profile.parsing_mode == "raw":
        kept = skin | mouth
    elif profile.parsing_mode == "neck":
        kept = skin | mouth | (labels == _NECK)
    else:
        kept = (_jaw_skin(skin, profile.left_cheek_width, profile.right_cheek_width) & (labels != _NOSE)) | mouth
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
    """A 0/255 mask on the label grid to the blurred mask of the whole blending crop, uint8 ``[2s, 2s]``.

    Only the face box's part below the upper boundary is kept, then blurred; the blur leaks a little past both.
    """
    side = crop[2] - crop[0]
    sized = np.asarray(Image.fromarray(hard).resize((side, side)))  # Pillow's default for masks is bicubic
    cut = keep_lower_face(sized, box, crop, profile.upper_boundary_ratio)
    kernel = int(((profile.blur_ratio * side) // 2) * 2) + 1
    return cv2.GaussianBlur(cut, (kernel, kernel), 0)


def keep_lower_face(sized: np.ndarray, box: Box, crop: Box, upper_boundary_ratio: float) -> np.ndarray:
    """The mask before blurring: zero outside the face box and above the boundary row."""
    top = max(box[1] - crop[1], int(len(sized) * upper_boundary_ratio))
    rows, columns = slice(top, box[3] - crop[1]), slice(box[0] - crop[0], box[2] - crop[0])
    cut = np.zeros_like(sized)
    cut[rows, columns] = sized[rows, columns]
    return cut
