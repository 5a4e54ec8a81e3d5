"""PSNR, SSIM and LPIPS of two clips, inside and outside the region that may be repainted."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from .perceptual import PerceptualMap
from .ssim import REACH, ssim_map

_PEAK = 255.0


@dataclass(frozen=True)
class RegionScores:
    """How alike two clips are in one region.

    pixels: how many were compared, over all frames. changed_pixels: those that differ in any channel, by
    max_difference at most (0..255). identical: none differs. psnr: in dB from the mean squared error of all frames
    together; None where identical. ssim: mean, 1 is the same. lpips: mean, 0 is the same; None where not measured.
    """

    pixels: int
    changed_pixels: int
    max_difference: int
    identical: bool
    psnr: float | None
    ssim: float | None
    lpips: float | None


@dataclass(frozen=True)
class PixelScores:
    """Two clips compared. A region without pixels is None (inside: no face; outside: nothing but face).

    psnr_inside, psnr_outside: float64 ``[N]`` per frame in dB, infinite where a frame is identical, NaN where a frame
    has no such region.
    """

    inside: RegionScores | None
    outside: RegionScores | None
    psnr_inside: np.ndarray
    psnr_outside: np.ndarray


class PixelMeter:
    """Takes pairs of frames one by one; what it keeps does not grow but for two numbers per frame."""

    def __init__(self, regions: np.ndarray, perceptual: PerceptualMap | None = None) -> None:
        """regions: int ``[N, 4]`` x0 y0 x1 y1, exclusive at the end, no area where a frame has no face."""
        self._regions = regions
        self._perceptual = perceptual
        self._inside, self._outside = _Totals(), _Totals()

    def update(self, index: int, first: np.ndarray, second: np.ndarray) -> None:
        """Compare frame ``index`` of both clips, uint8 RGB ``[H, W, 3]``."""
        x0, y0, x1, y1 = self._regions[index].tolist()
        inside = np.zeros(first.shape[:2], bool)
        inside[y0:y1, x0:x1] = True
        # What changes inside reaches into the windows around: those do not tell about the outside.
        clear = np.ones_like(inside)
        if inside.any():
            clear[max(y0 - REACH, 0) : y1 + REACH, max(x0 - REACH, 0) : x1 + REACH] = False
        parts = ((self._inside, inside, inside), (self._outside, ~inside, clear))
        if np.array_equal(first, second):
            for totals, where, windows in parts:
                totals.add_identical(int(where.sum()), int(windows.sum()), measured=self._perceptual is not None)
            return
        difference = cv2.absdiff(first, second)
        structure = ssim_map(first, second)
        distance = None if self._perceptual is None else self._perceptual(first, second)
        for totals, where, windows in parts:
            totals.add(difference, structure, distance, where, windows)

    def result(self) -> PixelScores:
        """The scores of all frames so far."""
        return PixelScores(
            self._inside.scores(), self._outside.scores(), np.array(self._inside.psnr), np.array(self._outside.psnr)
        )


@dataclass
class _Mean:
    """A mean over pixels, added up frame by frame."""

    total: float = 0.0
    count: int = 0

    def add(self, values: np.ndarray) -> None:
        self.total += float(values.sum(dtype=np.float64))
        self.count += values.size

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass
class _Totals:
    """Everything that is added up over the frames of one region."""

    pixels: int = 0
    changed: int = 0
    squares: int = 0
    largest: int = 0
    ssim: _Mean = field(default_factory=_Mean)
    lpips: _Mean = field(default_factory=_Mean)
    psnr: list[float] = field(default_factory=list)

    def add_identical(self, count: int, clear: int, *, measured: bool) -> None:
        """count: pixels of the region. clear: those whose windows count, as in :meth:`add`. measured: LPIPS too."""
        self.pixels += count
        self.psnr.append(np.inf if count else np.nan)
        self.ssim.total += clear
        self.ssim.count += clear
        if measured:
            self.lpips.count += clear

    def add(
        self,
        difference: np.ndarray,
        structure: np.ndarray,
        distance: np.ndarray | None,
        where: np.ndarray,
        clear: np.ndarray,
    ) -> None:
        """difference: uint8 ``[H, W, 3]``. structure, distance: the maps, read where ``clear``."""
        values = difference[where]
        if not len(values):
            self.psnr.append(np.nan)
            return
        squares = int((values.astype(np.int64) ** 2).sum())
        self.pixels += len(values)
        self.changed += int(values.any(axis=1).sum())
        self.squares += squares
        self.largest = max(self.largest, int(values.max()))
        self.psnr.append(psnr(squares, values.size))
        self.ssim.add(structure[clear])
        if distance is not None:
            self.lpips.add(distance[clear])

    def scores(self) -> RegionScores | None:
        if not self.pixels:
            return None
        identical = self.changed == 0
        return RegionScores(
            pixels=self.pixels,
            changed_pixels=self.changed,
            max_difference=self.largest,
            identical=identical,
            psnr=None if identical else psnr(self.squares, 3 * self.pixels),
            ssim=self.ssim.value,
            lpips=self.lpips.value,
        )


def psnr(squares: int, values: int) -> float:
    """dB of a sum of squared differences over so many 8-bit values; infinite where they are the same."""
    return float(10 * np.log10(_PEAK**2 * values / squares)) if squares else float("inf")
