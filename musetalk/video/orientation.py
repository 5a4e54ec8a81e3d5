"""Turning decoded pictures upright."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np


@dataclass(frozen=True)
class Orientation:
    """One of the eight right-angle orientations: transpose first, then flip."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """What the frame's display matrix asks for; upright without one."""
        try:
            side_data: Any = frame.side_data  # PyAV's stubs know only two of its keys
            data = side_data["DISPLAYMATRIX"]
        except (KeyError, ValueError):  # PyAV lists no side data at all when one kind is newer than it
            return cls()
        # Row vectors: x' = a*x + c*y, y' = b*x + d*y, in 16.16 fixed point; the rest only shifts.
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, flip_x=a < 0, flip_y=d < 0)
        return cls(True, flip_x=c < 0, flip_y=b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The upright size of a stored picture."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] as stored -> uint8 [H, W, 3] upright."""
        if self.transpose:
            picture = cv2.transpose(picture)
        if self.flip_x or self.flip_y:
            picture = cv2.flip(picture, -1 if self.flip_x and self.flip_y else int(self.flip_x))
        return picture
