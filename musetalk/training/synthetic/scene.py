"""A still picture around a face crop: what an engine is given, with the place it crops."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...face.boxes import Box, add_extra_margin
from ...profile import Profile
from .photos import portrait
from .still import SIZE

_AROUND = 64
_SOFTNESS = 12.0


@dataclass(frozen=True, eq=False)
class Scene:
    """picture: uint8 RGB ``[H, W, 3]``. box: x0 y0 x1 y1 of the face crop, with the margin below the chin."""

    picture: np.ndarray
    box: Box

    def with_face(self, crop: np.ndarray) -> np.ndarray:
        """The picture with another face crop, uint8 ``[256, 256, 3]``, in the box; nothing outside the box differs."""
        x0, y0, x1, y1 = self.box
        shrinks = x1 - x0 < SIZE or y1 - y0 < SIZE
        picture = self.picture.copy()
        picture[y0:y1, x0:x1] = cv2.resize(
            crop, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        return picture


def photograph(name: str) -> Scene:
    """A bundled photograph, as much of it as `photos.portrait` has, with the box that the engine crops by default.

    `photo_still` of the same name is the still of that crop. Raises InputError for a name not in ``PHOTOS``.
    """
    picture, box, _ = portrait(name)
    return Scene(picture, add_extra_margin(box, Profile().extra_margin, picture.shape[0]))


def framed(crop: np.ndarray) -> Scene:
    """A crop, uint8 ``[256, 256, 3]``, in the middle of a soft background in the colours of its edges, 384 pixels a
    side: a tight crop alone shows too little for a face to be found in it."""
    wide = cv2.copyMakeBorder(crop, _AROUND, _AROUND, _AROUND, _AROUND, cv2.BORDER_REPLICATE)
    picture = cv2.GaussianBlur(wide, (0, 0), _SOFTNESS, borderType=cv2.BORDER_REPLICATE)
    x0, x1 = _AROUND, _AROUND + SIZE
    picture[x0:x1, x0:x1] = crop
    return Scene(picture, (x0, x0, x1, x1))
