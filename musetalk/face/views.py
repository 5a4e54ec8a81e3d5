"""The square views in which the face detector is shown a picture."""

from __future__ import annotations

import math

import numpy as np

from .roi import Roi

# The detector finds faces down to a tenth of the side of what it is shown. Smaller ones are looked for in overlapping
# square tiles: (side, overlap) as parts of the long side. A face that is no larger than the overlap is whole in a tile.
_TILINGS = ((1.0, 0.5), (0.6, 0.2), (0.4, 0.1))
# In a long strip the tiles are measured from the short side instead, until there would be too many of them.
_LONGEST = 2.0
_MOST_SHRUNK = 8.0

QUARTER = math.pi / 2
SIDEWAYS = (QUARTER, -QUARTER, 2 * QUARTER)
"""The turns, in radians, in which a detector of upright faces sees heads that are rolled by more than 60 degrees."""


def looks(width: int, height: int, turn: float = 0.0) -> list[list[Roi]]:
    """The views of a picture, coarse to fine: the whole of it, then tiles of 0.6 and 0.4 of its long side.

    turn: the picture is seen turned by this angle in radians. Faces are found down to 4% of the long side, or of twice
    the short side in a strip (of an eighth of the long side in strips beyond 16:1); at most 64 views.
    """
    long, short = max(width, height), min(width, height)
    unit = min(long, max(_LONGEST * short, long / _MOST_SHRUNK))
    tilings = [_tiles(width, height, side * unit, overlap * unit, turn) for side, overlap in _TILINGS]
    return tilings if unit == long else [[whole(width, height, turn)], *tilings]


def whole(width: int, height: int, turn: float = 0.0) -> Roi:
    """All of a picture in one square."""
    return Roi(width / 2, height / 2, max(width, height), turn)


def around(roi: Roi, side: float) -> Roi:
    """A view of ``side`` pixels around a face, turned by quarters so that the face is upright in it or nearly."""
    return Roi(roi.cx, roi.cy, side, round(roi.angle / QUARTER) * QUARTER)


def _tiles(width: int, height: int, side: float, overlap: float, turn: float) -> list[Roi]:
    xs, ys = _centres(width, side, overlap), _centres(height, side, overlap)
    return [Roi(x, y, side, turn) for y in ys for x in xs]


def _centres(extent: int, side: float, overlap: float) -> list[float]:
    if extent <= side:
        return [extent / 2]
    count = math.ceil(round((extent - overlap) / (side - overlap), 6))
    return np.linspace(side / 2, extent - side / 2, count).tolist()
