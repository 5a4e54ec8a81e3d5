"""Many stills at hand: the photographs, persons made of them, and drawn faces; some of each kept from training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .drawn import draw_face
from .photos import PHOTOS, photo_still, vary
from .still import Still

_JITTER = 0.03
_MARGINS = (6, 16)


@dataclass(frozen=True)
class People:
    """photographs: the bundled ones, in several crops each. varied, drawn: made at random."""

    photographs: list[Still]
    varied: list[Still]
    drawn: list[Still]

    def draw(self, rng: np.random.Generator, photographs: float, variations: float) -> Still:
        """One of them at random; shares of the photographs and of the variations, the others are drawn faces."""
        lot = rng.random()
        kind = self.photographs if lot < photographs else self.varied
        if lot >= photographs + variations:
            kind = self.drawn
        return kind[rng.integers(len(kind))]


def gather_people(rng: np.random.Generator, *, varied: int, drawn: int, crops: int = 12) -> People:
    """People of these numbers.

    crops: of each photograph, as engines crop it in different clips: the box moves a little, and so does its margin.
    """
    photographs = [_any_crop(name, rng) for name in PHOTOS for _ in range(crops)]
    others = [vary(photographs[rng.integers(len(photographs))], rng) for _ in range(varied)]
    return People(photographs, others, [draw_face(rng) for _ in range(drawn)])


def _any_crop(name: str, rng: np.random.Generator) -> Still:
    for _ in range(10):
        try:
            return photo_still(
                name,
                margin=int(rng.integers(*_MARGINS)),
                shift=(float(rng.uniform(-_JITTER, _JITTER)), float(rng.uniform(-_JITTER, _JITTER))),
                grow=(float(rng.uniform(0.97, 1.06)), float(rng.uniform(0.97, 1.04))),
            )
        except InputError:
            continue
    return photo_still(name)
