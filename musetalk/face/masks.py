"""The paste mask: where, how strongly and how turned one generated face goes into its frame."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from .boxes import Box
from .upright import Turn, bounds_in_picture, cut_upright, lay_back


@dataclass(frozen=True)
class Strength:
    """What weakens a paste besides its mask, in one frame of the footage.

    weight: of the whole face, 0..1. allowed: uint8 ``[H, W]``, 255 where the face may be redrawn. hidden: uint8
    ``[H, W]``, 255 where something stands in front of the face: such pixels are not touched at all.
    """

    weight: float = 1.0
    allowed: np.ndarray | None = None
    hidden: np.ndarray | None = None

    def apply(self, alpha: np.ndarray, region: Box) -> np.ndarray:
        """The alpha of a region of the frame, ``[h, w]`` in 0..255, weakened and rounded once to uint8."""
        x0, y0, x1, y1 = region
        if self.weight != 1:
            alpha = alpha.astype(np.float32) * self.weight
        if self.allowed is not None:
            alpha = alpha * (self.allowed[y0:y1, x0:x1].astype(np.float32) / 255)
        if self.hidden is not None:
            alpha = alpha * ((255 - self.hidden[y0:y1, x0:x1]).astype(np.float32) / 255)
        return alpha if alpha.dtype == np.uint8 else np.rint(alpha).astype(np.uint8)


@dataclass(frozen=True)
class PasteMask:
    """Where and how strongly one generated face is pasted into its frame.

    box: the face box the generated face is stretched over; it may leave the picture, by its edges only under parity.
    crop_box: the square blending crop around it, x0 y0 x1 y1; it may leave the picture.
    region: the part of the picture the mask touches, x0 y0 x1 y1; an empty region pastes nothing.
    packed: the uint8 alpha of the region, row by row, zlib-compressed (a clip holds thousands of them).
    turn: box and crop_box lie in the picture turned by it; None where they are level. The region is never turned.
    color_match: give the face the footage's colours in the rim of the mask before it is blended.
    """

    box: Box
    crop_box: Box
    region: Box
    packed: bytes
    turn: Turn | None = None
    color_match: bool = False

    @property
    def alpha(self) -> np.ndarray:
        """The alpha of the region, uint8 ``[h, w]``."""
        x0, y0, x1, y1 = self.region
        return np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(y1 - y0, x1 - x0)

    @classmethod
    def from_soft_mask(
        cls,
        soft: np.ndarray,
        box: Box,
        crop: Box,
        size: tuple[int, int],
        *,
        turn: Turn | None = None,
        strength: Strength | None = None,
        color_match: bool = False,
    ) -> PasteMask:
        """Cut a whole-crop soft mask, uint8 ``[2s, 2s]``, to what can change a picture of ``(width, height)``.

        Outside the face box the composite mixes the picture with itself, which changes no pixel.
        """
        x0, y0, x1, y1 = box
        if turn is None:
            width, height = size
            whole = max(x0, crop[0], 0), max(y0, crop[1], 0), min(x1, crop[2], width), min(y1, crop[3], height)
            alpha = _part(soft, crop, whole)
        else:
            whole = bounds_in_picture(box, turn, size)
            kept = max(x0, crop[0]), max(y0, crop[1]), min(x1, crop[2]), min(y1, crop[3])
            alpha = lay_back(_part(soft, crop, kept).astype(np.float32), kept, turn, whole)
        alpha = (strength or Strength()).apply(alpha, whole)
        rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
        if len(rows) == 0:
            return cls(box, crop, (0, 0, 0, 0), zlib.compress(b""), turn, color_match)
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        region = int(whole[0] + left), int(whole[1] + top), int(whole[0] + right), int(whole[1] + bottom)
        packed = zlib.compress(alpha[top:bottom, left:right].tobytes(), 1)
        return cls(box, crop, region, packed, turn, color_match)

    def faded(self, strength: float) -> PasteMask:
        """The same mask at a part, 0..1, of its strength; itself at 1."""
        if strength == 1:
            return self
        alpha = np.rint(self.alpha.astype(np.float32) * strength).astype(np.uint8)
        return replace(self, packed=zlib.compress(alpha.tobytes(), 1))


def _part(soft: np.ndarray, crop: Box, part: Box) -> np.ndarray:
    return soft[part[1] - crop[1] : part[3] - crop[1], part[0] - crop[0] : part[2] - crop[0]]


def blending_crop(box: Box, expand: float) -> Box:
    """The square around a face box in which parsing and blending happen; it may leave the picture."""
    x0, y0, x1, y1 = box
    centre_x, centre_y = (x0 + x1) // 2, (y0 + y1) // 2
    half = int(max(x1 - x0, y1 - y0) // 2 * expand)
    return centre_x - half, centre_y - half, centre_x + half, centre_y + half


def crop_padded(picture: np.ndarray, box: Box) -> np.ndarray:
    """``picture[y0:y1, x0:x1]`` of a uint8 ``[H, W]`` or ``[H, W, 3]``, black where the box leaves it."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = box
    inside = picture[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    if inside.shape[:2] == (y1 - y0, x1 - x0):
        return inside
    padded = np.zeros((y1 - y0, x1 - x0, *picture.shape[2:]), dtype=np.uint8)
    top, left = max(-y0, 0), max(-x0, 0)
    padded[top : top + min(y1, height) - max(y0, 0), left : left + min(x1, width) - max(x0, 0)] = inside
    return padded


def cut_box(picture: np.ndarray, box: Box, turn: Turn | None) -> np.ndarray:
    """The pixels of a box, black outside the picture, at their own size: of the turned picture where there is a turn.

    picture: uint8 ``[H, W]`` or ``[H, W, 3]``.
    """
    return crop_padded(picture, box) if turn is None else cut_upright(picture, box, turn)
