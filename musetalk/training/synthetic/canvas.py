"""A canvas twice as fine as a crop, to draw soft shapes on."""

from __future__ import annotations

import cv2
import numpy as np

from .still import SIZE

SCALE = 2
_SIDE = SIZE * SCALE
_PAD = 3


class Canvas:
    """A float32 RGB picture ``[512, 512, 3]``; all lengths and places are given in pixels of the 256 crop.

    x, y: float32 ``[1, 512]`` and ``[512, 1]``, the place of each pixel. colours: the picture, levels 0..255.
    """

    def __init__(self) -> None:
        places = (np.arange(_SIDE, dtype=np.float32) + 0.5) / SCALE - 0.5
        self.x, self.y = places[None], places[:, None]
        self.colours = np.zeros((_SIDE, _SIDE, 3), np.float32)

    def ellipse(
        self,
        centre: tuple[float, float],
        reach: tuple[float, float],
        colour: np.ndarray,
        *,
        alpha: float = 1.0,
        blur: float = 0.0,
        power: float = 2.0,
        turn: float = 0.0,
    ) -> None:
        """Lay a (super)ellipse over the picture. reach: half axes. turn: radians. blur: sigma of its edge."""
        span = max(reach) + _PAD * blur + 2
        part = self._part(centre[0] - span, centre[1] - span, centre[0] + span, centre[1] + span)
        if part is None:
            return
        ys, xs = part
        mask = ellipse_mask(self.x[:, xs] - centre[0], self.y[ys] - centre[1], reach, power=power, turn=turn)
        self._lay(mask * alpha, colour, blur, ys, xs)

    def lay(self, mask: np.ndarray, colour: np.ndarray, blur: float = 0.0) -> None:
        """Lay a colour, ``[3]`` or ``[512, 512, 3]``, over the picture where ``mask`` ``[512, 512]`` is above 0."""
        self._lay(mask, colour, blur, slice(None), slice(None))

    def shade(self, factor: np.ndarray) -> None:
        """Multiply the picture by ``factor`` ``[512, 512]``."""
        self.colours *= factor[..., None]

    def noise(self, rng: np.random.Generator, grain: float, stretch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
        """Smooth noise of deviation 1, ``[512, 512]``, with spots of about ``grain`` pixels, stretched (x, y)."""
        columns, rows = (max(3, round(SIZE / (grain * factor))) for factor in stretch)
        field = rng.standard_normal((rows, columns), np.float32)
        return cv2.resize(field, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)

    def picture(self) -> np.ndarray:
        """The finished picture, uint8 ``[256, 256, 3]``."""
        small = cv2.resize(self.colours, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return np.clip(small + 0.5, 0, 255).astype(np.uint8)

    def _lay(self, mask: np.ndarray, colour: np.ndarray, blur: float, ys: slice, xs: slice) -> None:
        if blur:
            mask = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur * SCALE)
        part = self.colours[ys, xs]
        part += (np.asarray(colour, np.float32) - part) * mask[..., None]

    def _part(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice] | None:
        left, top = max(int(x0 * SCALE), 0), max(int(y0 * SCALE), 0)
        right, bottom = min(int(x1 * SCALE) + 1, _SIDE), min(int(y1 * SCALE) + 1, _SIDE)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def ellipse_mask(
    x: np.ndarray, y: np.ndarray, reach: tuple[float, float], *, power: float = 2.0, turn: float = 0.0
) -> np.ndarray:
    """Coverage 0..1 of a (super)ellipse around the origin, with an edge about a pixel wide."""
    if turn:
        x, y = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = np.abs(x / reach[0]) ** power + np.abs(y / reach[1]) ** power
    return np.clip((1 - distance) * min(reach) * 0.5 + 0.5, 0, 1)
