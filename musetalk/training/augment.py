"""Changes to a sample that leave it a face speaking the same sound. All off by default, as upstream has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)

# Left and right of the same thing among the 68 iBUG points.
_PAIRS = (
    *((i, 16 - i) for i in range(8)),
    *((17 + i, 26 - i) for i in range(5)),
    *((31, 35), (32, 34)),
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)),
)


@dataclass(frozen=True)
class Augmentation:
    """How strongly samples are changed.

    flip: share of samples mirrored, targets and references together.
    brightness, contrast, saturation: each is multiplied by a factor from ``1 - value`` to ``1 + value``, the same for
        all pictures of a sample: the reference must not lie about the target's colours.
    """

    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; it must lie between 0 and 1")

    def draw(self, rng: np.random.Generator) -> Change:
        """What one sample gets. Takes four numbers from the generator, whatever the settings."""
        mirrored = bool(rng.random() < self.flip)
        brightness, contrast, saturation = (
            float(rng.uniform(1 - most, 1 + most)) for most in (self.brightness, self.contrast, self.saturation)
        )
        return Change(mirrored, brightness, contrast, saturation)


@dataclass(frozen=True)
class Change:
    """One sample's mirror and colour factors; 1 changes nothing."""

    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def pictures(self, crops: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[n, H, W, 3]`` changed; contrast is about middle grey, so that it is the same for every frame."""
        if self.mirrored:
            crops = crops[:, :, ::-1]
        if self.brightness == self.contrast == self.saturation == 1.0:
            return crops
        colours = crops.astype(np.float32) * self.brightness
        luma = (colours @ _LUMA)[..., None]
        colours = luma + (colours - luma) * self.saturation
        colours = 127.5 + (colours - 127.5) * self.contrast
        return colours.round().clip(0, 255).astype(np.uint8)

    def landmarks(self, points: np.ndarray, width: float) -> np.ndarray:
        """Landmarks ``[n, 68, 2]`` of pictures ``width`` pixels wide, changed with them."""
        return flip_landmarks(points, width) if self.mirrored else points


def flip_landmarks(points: np.ndarray, width: float) -> np.ndarray:
    """68 iBUG points ``[..., 68, 2]`` of the mirrored picture: left becomes right, in place and in name."""
    flipped = points[..., list(_MIRRORED), :].copy()
    flipped[..., 0] = width - flipped[..., 0]
    return flipped


def _mirrored() -> tuple[int, ...]:
    order = list(range(68))
    for left, right in _PAIRS:
        order[left], order[right] = right, left
    return tuple(order)


_MIRRORED = _mirrored()
