"""Structural similarity as a map (Wang et al., "Image quality assessment", IEEE TIP 2004)."""

from __future__ import annotations

import cv2
import numpy as np

# The window of the paper: 11 taps of a Gaussian; how far a pixel's value reaches.
_TAPS, _SIGMA = 11, 1.5
REACH = _TAPS // 2
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """SSIM of the luma of two pictures, uint8 RGB ``[H, W, 3]``, around every pixel: float32 ``[H, W]``, at most 1.

    The same numbers as torchmetrics' full image (edges mirrored), through separable filters: some twenty times faster
    on a CPU.
    """
    x, y = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) for picture in (first, second))
    mean_x, mean_y = _blur(x), _blur(y)
    spread_x = np.maximum(_blur(x * x) - mean_x**2, 0)
    spread_y = np.maximum(_blur(y * y) - mean_y**2, 0)
    shared = _blur(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * shared + _C2)
    below = (mean_x**2 + mean_y**2 + _C1) * (spread_x + spread_y + _C2)
    return np.asarray(above / below, np.float32)


def _blur(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (_TAPS, _TAPS), _SIGMA, borderType=cv2.BORDER_REFLECT_101)
