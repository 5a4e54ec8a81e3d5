"""Generated faces back into their frames (spec section 6.3)."""

from __future__ import annotations

import cv2
import numpy as np

from .face.masks import PasteMask


def paste_face(frame: np.ndarray, face: np.ndarray, mask: PasteMask) -> None:
    """Blend one face into its frame, in place.

    frame: uint8 RGB ``[H, W, 3]``, writable. face: uint8 RGB ``[S, S, 3]`` of any size S. Only pixels with a non-zero
    mask change; the arithmetic is Pillow's integer paste, to the last bit.
    """
    x0, y0, x1, y1 = mask.region
    if x0 == x1:
        return
    left, top, right, bottom = mask.box
    sized = _resize(face, right - left, bottom - top)
    source = sized[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.uint16)
    target = frame[y0:y1, x0:x1]
    alpha = mask.alpha[..., None].astype(np.uint16)
    # 255 * 255 + 128 and its carry fit in 16 bits.
    source *= alpha
    source += target * (255 - alpha)
    source += 128
    source += source >> 8
    source >>= 8
    target[...] = source


def _resize(face: np.ndarray, width: int, height: int) -> np.ndarray:
    if face.shape[:2] == (height, width):
        return face
    # The VAE's own 256 px are resized as upstream does; a restorer's larger face would alias when shrunk that way.
    shrinks = face.shape[0] > 256 and face.shape[0] > height and face.shape[1] > width
    return cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
