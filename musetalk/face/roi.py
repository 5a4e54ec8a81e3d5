"""The rotated square a face network looks at, and the way from it back to the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

# Mesh points at the outer corners of the person's eyes.
_RIGHT_EYE, _LEFT_EYE = 33, 263
_CONTEXT = 1.5


@dataclass(frozen=True)
class Roi:
    """A square of ``side`` pixels around ``(cx, cy)``, turned by ``angle`` radians (clockwise on screen)."""

    cx: float
    cy: float
    side: float
    angle: float = 0.0

    @classmethod
    def around_upright_box(cls, box: np.ndarray) -> Roi:
        """The face of ``box`` (xyxy, pixels), level, with half its size again as context, as in MediaPipe."""
        x0, y0, x1, y1 = (float(v) for v in box)
        return cls((x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0, 1.0) * _CONTEXT)

    @classmethod
    def around_box(cls, box: np.ndarray, right_eye: np.ndarray, left_eye: np.ndarray) -> Roi:
        """The face of ``box`` turned so that the line from eye to eye is level."""
        dx, dy = (float(v) for v in left_eye - right_eye)
        return replace(cls.around_upright_box(box), angle=math.atan2(dy, dx))

    @classmethod
    def around_mesh(cls, points: np.ndarray) -> Roi:
        """Where to look in the next frame for the face whose mesh ``[468, 2 or 3]`` was found in this one."""
        return cls.around_box(mesh_box(points), points[_RIGHT_EYE, :2], points[_LEFT_EYE, :2])

    def cut(self, rgb: np.ndarray, size: int, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
        """Resample to uint8 ``[size, size, 3]``; ``border`` (cv2) fills what lies outside the picture."""
        corners = np.array([[-1, 1], [-1, -1], [1, -1], [1, 1]], np.float32) * (self.side / 2)
        source = self.turn(corners) + np.array([self.cx, self.cy], np.float32)
        target = np.array([[0, size], [0, 0], [size, 0], [size, size]], np.float32)
        matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target)
        return cv2.warpPerspective(rgb, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points ``[N, 3]`` in units of the square (0..1; z alike) to float32 picture pixels ``[N, 3]``."""
        return np.concatenate([self.place(points[:, :2]), points[:, 2:] * self.side], axis=1).astype(np.float32)

    def place(self, xy: np.ndarray) -> np.ndarray:
        """Points ``[..., 2]`` in units of the square (0..1) to picture pixels."""
        return self.turn(xy - 0.5) * self.side + [self.cx, self.cy]

    def turn(self, xy: np.ndarray) -> np.ndarray:
        """Vectors ``[..., 2]`` from the square's axes to the picture's."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return xy @ np.array([[cos, sin], [-sin, cos]], np.float32)


def mesh_box(points: np.ndarray) -> np.ndarray:
    """The extent of mesh points ``[N, 2 or 3]`` as float xyxy ``[4]``."""
    return np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
