"""Generated faces back into their frames (spec section 6.3)."""

from __future__ import annotations

import cv2
import numpy as np

from .color_match import match_color
from .face.masks import PasteMask
from .face.upright import lay_back


def paste_face(frame: np.ndarray, face: np.ndarray, mask: PasteMask) -> None:
    """Blend one face into its frame, in place.

    frame: uint8 RGB ``[H, W, 3]``, writable. face: uint8 RGB ``[S, S, 3]`` of any size S. Only pixels with a non-zero
    mask change; the arithmetic is Pillow's integer paste, to the last bit.
    """
    x0, y0, x1, y1 = mask.region
    if x0 == x1:
        return
    target, opacity = frame[y0:y1, x0:x1], mask.alpha
    placed = _place(face, mask)
    if mask.color_match:
        placed = match_color(placed, target, opacity)
    source, alpha = placed.astype(np.uint16), opacity[..., None].astype(np.uint16)
    # 255 * 255 + 128 and its carry fit in 16 bits.
    source *= alpha
    source += target * (255 - alpha)
    source += 128
    source += source >> 8
    source >>= 8
    target[...] = source


def _place(face: np.ndarray, mask: PasteMask) -> np.ndarray:
    """The face where it lies in the mask's region, uint8 ``[h, w, 3]``."""
    x0, y0, x1, y1 = mask.region
    left, top, right, bottom = mask.box
    if mask.turn is None:
        return _resize(face, right - left, bottom - top)[y0 - top : y1 - top, x0 - left : x1 - left]
    if _shrinks(face, right - left, bottom - top):
        face = _resize(face, right - left, bottom - top)
    return lay_back(face, mask.box, mask.turn, mask.region, cv2.BORDER_REPLICATE)


def _resize(face: np.ndarray, width: int, height: int) -> np.ndarray:
    if face.shape[:2] == (height, width):
        return face
    shrinks = _shrinks(face, width, height)
    return cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _shrinks(face: np.ndarray, width: int, height: int) -> bool:
    """Whether a face is averaged to its size: the VAE's own 256 px are not, as upstream, but a restorer's larger one
    would alias."""
    return face.shape[0] > 256 and face.shape[0] > height and face.shape[1] > width
