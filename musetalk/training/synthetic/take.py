"""How a clip is filmed: head motion, light, sharpness and grain, the same for all frames of a clip but the motion."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from .still import SIZE

LONGEST = 30.0
"""Seconds of a take that pictures are drawn from."""
_GRAIN_SIDE = SIZE + 64
_WAVES = 2


@dataclass(frozen=True, eq=False)
class Take:
    """One take; without arguments it changes nothing.

    motion: float64 ``[5, waves, 3]``, amplitude, frequency (Hz) and phase (rad) of the waves that move the head:
        columns, rows, turn (rad), and logarithms of the width and the height.
    levels: uint8 ``[256, 3]``, what each level of red, green and blue becomes, or None.
    glow: float32 ``[256, 256, 1]``, factor of uneven light, or None.
    blur: sigma in pixels. grain: standard deviation in levels. mirror: left and right changed.
    """

    motion: np.ndarray = field(default_factory=lambda: np.zeros((5, 0, 3)))
    levels: np.ndarray | None = None
    glow: np.ndarray | None = None
    blur: float = 0.0
    grain: float = 0.0
    mirror: bool = False

    @classmethod
    def random(cls, rng: np.random.Generator, strength: float = 1.0) -> Take:
        """A random take. strength: 0 gives no more than a mirrored picture, 1 an ordinary hand-held clip."""
        sway = np.array([3.0, 2.0, 0.02, 0.012, 0.012]) * strength / _WAVES
        motion = np.stack(
            [
                sway[:, None] * rng.uniform(0.2, 1, (5, _WAVES)),
                rng.uniform(0.1, 0.9, (5, _WAVES)),
                rng.uniform(0, 2 * np.pi, (5, _WAVES)),
            ],
            axis=-1,
        )
        gain = np.exp(rng.normal(0, 0.14, 1) * strength + rng.normal(0, 0.05, 3) * strength)
        gamma = np.exp(rng.normal(0, 0.14) * strength)
        levels = np.clip(255 * (np.arange(256) / 255) ** gamma, 0, 255)[:, None] * gain
        levels = levels + rng.normal(0, 6) * strength
        angle = rng.uniform(0, 2 * np.pi)
        across = np.linspace(-1, 1, SIZE)
        slope = np.cos(angle) * across[None] + np.sin(angle) * across[:, None]
        glow = np.exp(rng.uniform(0, 0.22) * strength * slope)[..., None]
        return cls(
            motion=motion,
            levels=np.clip(levels + 0.5, 0, 255).astype(np.uint8),
            glow=glow.astype(np.float32),
            blur=float(max(0.0, rng.normal(0.1, 0.4))) * strength,
            grain=float(rng.uniform(0, 3)) * strength,
            mirror=bool(rng.random() < 0.5),
        )

    def matrix(self, time: float) -> np.ndarray:
        """The head motion at ``time`` in seconds, float64 ``[2, 3]``: pixels of the still to pixels of the frame."""
        amplitude, frequency, phase = np.moveaxis(self.motion, -1, 0)
        waves = (amplitude * np.sin(2 * np.pi * frequency * time + phase)).sum(axis=1)
        right, down, turn, wide, high = waves
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        linear = linear * np.exp([wide, high])
        middle = np.full(2, (SIZE - 1) / 2)
        return np.column_stack([linear, middle - linear @ middle + (right, down)])

    def apply(self, image: np.ndarray, time: float) -> np.ndarray:
        """A frame, uint8 RGB ``[256, 256, 3]``, as it is filmed at ``time`` in seconds."""
        if self.motion.shape[1]:
            image = cv2.warpAffine(
                image, self.matrix(time), (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        if self.mirror:
            image = cv2.flip(image, 1)
        if self.blur > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.levels is not None:
            image = cv2.LUT(image, self.levels[None])
        if self.glow is not None or self.grain > 0:
            image = self._developed(image, time)
        return image

    def _developed(self, image: np.ndarray, time: float) -> np.ndarray:
        values = image.astype(np.float32)
        if self.glow is not None:
            values *= self.glow
        if self.grain > 0:
            rng = np.random.default_rng(abs(round(time * 1000)))
            x, y = rng.integers(0, _GRAIN_SIDE - SIZE, 2)
            values += _grain()[y : y + SIZE, x : x + SIZE] * self.grain
        return cv2.convertScaleAbs(np.maximum(values, 0, out=values))


def random_moment(rng: np.random.Generator) -> float:
    """Seconds into a take."""
    return float(rng.uniform(0, LONGEST))


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """Normal noise to cut frames' grain from, float32 ``[320, 320, 3]``: drawing it anew takes longer than a frame."""
    return np.random.default_rng(0).standard_normal((_GRAIN_SIDE, _GRAIN_SIDE, 3), np.float32)
