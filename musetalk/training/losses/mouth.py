"""Where the mouth is, and the mouth alone as a picture (spec section 8.2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError

# Of the 68 landmarks: outer lips and inner lips but for the last point, as upstream takes them.
_LIPS = slice(48, 67)


def mouth_rectangle(landmarks: np.ndarray, *, size: int = 256, padding: float = 10.0) -> np.ndarray:
    """The rectangle around the lips, twice as wide as high.

    landmarks: float [..., 68, 2] in pixels of the face crop resized to ``size`` x ``size``.
    padding: added left and right; the height is half the width, around the middle of the lips.
    Returns int64 [..., 4] x0 y0 x1 y1 within the crop, ends excluded. Raises InputError when a mouth lies wholly
    outside the crop.
    """
    rectangles = np.rint(_around_lips(landmarks, padding).clip(0, size)).astype(np.int64)
    empty = (rectangles[..., 2:] <= rectangles[..., :2]).any(axis=-1)
    if empty.any():
        which = np.flatnonzero(empty)[:5].tolist()
        raise InputError(f"the mouth lies outside the {size} x {size} face crop in frames {which}; leave these out")
    return rectangles


def mouth_within(landmarks: np.ndarray, *, size: int = 256, padding: float = 10.0) -> np.ndarray:
    """The part of the mouth's rectangle that lies within the crop, 0 to 1: float64 [...], arguments as above."""
    whole = _around_lips(landmarks, padding)
    shown = whole.clip(0, size)
    return _area(shown) / _area(whole)


def _around_lips(landmarks: np.ndarray, padding: float) -> np.ndarray:
    """float64 [..., 4] x0 y0 x1 y1, wherever that is."""
    lips = landmarks[..., _LIPS, :].astype(np.float64)
    (x0, low), (x1, high) = (np.moveaxis(edge, -1, 0) for edge in (lips.min(axis=-2), lips.max(axis=-2)))
    x0, x1 = x0 - padding, x1 + padding
    middle, reach = (low + high) / 2, (x1 - x0) / 4
    return np.stack((x0, middle - reach, x1, middle + reach), axis=-1)


def _area(rectangles: np.ndarray) -> np.ndarray:
    return (rectangles[..., 2] - rectangles[..., 0]) * (rectangles[..., 3] - rectangles[..., 1])


def crop_mouths(images: Tensor, rectangles: Tensor, size: int = 256) -> Tensor:
    """Cut the rectangles out and resize them, bilinear, differentiable in the images.

    images: float [N, 3, H, W].
    rectangles: int or float [N, 4] x0 y0 x1 y1 within the images, not empty, ends excluded.
    Returns float [N, 3, size, size], equal to slicing and `F.interpolate`. As products with matrices, because the
    gradient of `F.interpolate` on CUDA is not deterministic and every rectangle has a size of its own.
    """
    x0, y0, x1, y1 = rectangles.to(images).unbind(1)
    rows = _resizing(y0, y1, images.shape[2], size)
    columns = _resizing(x0, x1, images.shape[3], size)
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def _resizing(start: Tensor, stop: Tensor, length: int, size: int) -> Tensor:
    """Which share every pixel of an axis has in every pixel of its resized part, float [N, size, length]."""
    extent = (stop - start)[:, None]
    places = (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5) / size * extent - 0.5
    places = start[:, None] + places.clamp(min=0.0).minimum(extent - 1.0)
    pixels = torch.arange(length, device=start.device, dtype=start.dtype)
    return (1.0 - (places[:, :, None] - pixels).abs()).clamp(min=0.0)
