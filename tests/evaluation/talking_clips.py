"""Clips made on the spot: a portrait whose mouth follows a signal, and a voice that follows the same signal."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np

from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh

FPS = Fraction(25)
_MOUTH_COLOUR = (40.0, 12.0, 14.0)
# The widest opening, in distances between the eyes.
_WIDEST = 0.3


def syllables(frames: int, seed: int = 0) -> np.ndarray:
    """How far a talking mouth is open, float64 ``[frames]`` in 0..1: no two seconds alike, with a pause."""
    noise = np.random.default_rng(seed).normal(size=frames + 8)
    wave = np.convolve(noise, np.hanning(7)[1:-1], mode="same")[4:-4]
    drive = np.clip(0.5 + 0.35 * wave, 0, 1)
    drive[frames // 2 : frames // 2 + frames // 6] = 0
    return drive


def voice(drive: np.ndarray, late: int = 0, fps: Fraction = FPS) -> np.ndarray:
    """float32 16 kHz samples, as loud as ``drive`` tells, ``late`` frames later; silent where it is 0."""
    time = np.arange(int(len(drive) / fps * SAMPLE_RATE)) / SAMPLE_RATE
    loud = np.interp(time * float(fps) - 0.5 - late, np.arange(len(drive)), drive, left=0, right=0)
    tone = sum(np.sin(2 * np.pi * hertz * time) for hertz in (450, 900, 1800, 2700))
    return (0.2 * loud**2 * tone).astype(np.float32)


class Talker:
    """A portrait that opens its mouth."""

    def __init__(self, picture: np.ndarray, box: tuple[int, int, int, int], mesh: FaceMesh) -> None:
        points = mesh.mesh_in_box(picture, box)
        assert points is not None
        self.picture = picture
        self._landmarks = to_68(points).astype(np.float64)

    def frame(self, opening: float) -> np.ndarray:
        """uint8 ``[H, W, 3]``: everything under the line of the lips is pulled down, the gap is dark."""
        marks = self._landmarks
        eyes = np.linalg.norm(marks[42:48].mean(axis=0) - marks[36:42].mean(axis=0))
        centre_x = (marks[60, 0] + marks[64, 0]) / 2
        line = marks[[61, 62, 63, 65, 66, 67], 1].mean()
        chin = marks[8, 1] - line
        y, x = np.mgrid[: self.picture.shape[0], : self.picture.shape[1]].astype(np.float32)
        lens = np.sqrt(np.clip(1 - ((x - centre_x) / ((marks[64, 0] - marks[60, 0]) / 2)) ** 2, 0, 1))
        below = y - line
        gap = opening * _WIDEST * eyes * lens
        shift = gap * np.clip(1 - (below - chin) / (0.6 * chin), 0, 1)
        from_y = np.where(below > 0, np.maximum(y - shift, line), y)
        moved = cv2.remap(self.picture, x, from_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        dark = (np.clip(np.minimum(below, gap - below) + 0.5, 0, 1) * np.clip(gap, 0, 1))[..., None]
        return (moved * (1 - dark) + np.array(_MOUTH_COLOUR) * dark).round().astype(np.uint8)

    def clip(self, drive: np.ndarray) -> np.ndarray:
        """uint8 ``[len(drive), H, W, 3]``"""
        return np.stack([self.frame(float(opening)) for opening in drive])
