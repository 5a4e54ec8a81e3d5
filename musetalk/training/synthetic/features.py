"""The proportions and colours of a drawn face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .still import SIZE

_HAIR = np.array(
    [[28, 22, 20], [62, 40, 28], [110, 72, 42], [170, 130, 80], [150, 70, 36], [150, 146, 142]], np.float32
)
_IRIS = np.array([[70, 44, 26], [96, 70, 40], [86, 100, 70], [88, 116, 140], [50, 38, 32]], np.float32)
# Light to dark skin, average colours under neutral light.
_SKIN = np.array(
    [[236, 196, 172], [222, 172, 142], [196, 142, 108], [150, 102, 72], [104, 68, 50], [70, 46, 36]], np.float32
)


@dataclass(frozen=True, eq=False)
class Features:
    """One drawn person; lengths and rows in pixels of the 256 crop, colours RGB.

    face_half, jaw_row, power: half width, lowest row and squareness of the head's outline, whose widest row is
    ``widest``. age, man: 0..1. lines: float32 ``[4, 256]``, the shut mouth as in ``Still.lips``.
    """

    centre: float
    face_half: float
    widest: float
    jaw_row: float
    power: float
    eye_row: float
    eye_apart: float
    eye_size: float
    eye_open: float
    brow_row: float
    nose_row: float
    nose_half: float
    mouth_row: float
    mouth_half: float
    upper: float
    lower: float
    bow: float
    age: float
    man: float
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lip: np.ndarray

    @classmethod
    def random(cls, rng: np.random.Generator) -> Features:
        tone = (len(_SKIN) - 1.001) * rng.random() ** 1.4
        skin = _between(_SKIN, tone) * np.exp(rng.normal(0, 0.06) + rng.normal(0, 0.03, 3))
        hair = _HAIR[rng.integers(0, 2 if tone > 3 else len(_HAIR))] * np.exp(
            rng.normal(0, 0.25) + rng.normal(0, 0.06, 3)
        )
        redness = np.array([0.90, 0.62, 0.64]) if tone < 3 else np.array([0.86, 0.68, 0.70])
        lip = skin * redness * np.exp(rng.normal(0, 0.06, 3))
        man = float(rng.random() < 0.5)
        if not man and rng.random() < 0.4:
            lip = np.array([rng.uniform(130, 200), rng.uniform(30, 80), rng.uniform(50, 100)])
        nose_row = rng.uniform(146, 156)
        mouth_row = nose_row + rng.uniform(22, 32)
        jaw_row = rng.uniform(max(232, mouth_row + 46), 248)
        return cls(
            centre=128 + rng.uniform(-6, 6),
            face_half=rng.uniform(100, 124),
            widest=rng.uniform(88, 116),
            jaw_row=jaw_row,
            power=rng.uniform(1.9, 2.7) + 0.2 * man,
            eye_row=(eye_row := rng.uniform(78, 92)),
            eye_apart=rng.uniform(46, 56),
            eye_size=rng.uniform(18, 23),
            eye_open=rng.uniform(0.30, 0.46),
            brow_row=eye_row - rng.uniform(17, 24),
            nose_row=nose_row,
            nose_half=rng.uniform(20, 30),
            mouth_row=mouth_row,
            mouth_half=rng.uniform(38, 54),
            upper=rng.uniform(5, 10),
            lower=rng.uniform(8, 14),
            bow=rng.uniform(-4, 4),
            age=float(rng.random() ** 1.5),
            man=man,
            skin=skin,
            hair=hair,
            iris=_IRIS[rng.integers(len(_IRIS))] * np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.06, 3)),
            lip=lip,
        )

    @property
    def lines(self) -> np.ndarray:
        x = np.arange(SIZE, dtype=np.float32)
        along = (x - self.centre) / self.mouth_half
        profile = np.clip(1 - along * along, 0, 1)
        line = self.mouth_row + self.bow * np.minimum(along * along, 1)
        dip = 1 - 0.28 * np.exp(-((along / 0.15) ** 2))
        top = line - np.maximum(self.upper * profile**0.8 * dip, 0.6)
        bottom = line + np.maximum(self.lower * profile**0.7, 0.6)
        return np.stack([top, line, line, bottom]).astype(np.float32)

    @property
    def chin(self) -> np.ndarray:
        """Row of the jaw line per column, float32 ``[256]``."""
        share = np.clip(np.abs(np.arange(SIZE) - self.centre) / self.face_half, 0, 0.999)
        down = (1 - share**self.power) ** (1 / self.power)
        return (self.widest + (self.jaw_row - self.widest) * down).astype(np.float32)


def _between(colours: np.ndarray, place: float) -> np.ndarray:
    first = int(place)
    return colours[first] + (colours[first + 1] - colours[first]) * (place - first)
