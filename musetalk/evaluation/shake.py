"""How much the landmarks of a track shake."""

from __future__ import annotations

from dataclasses import dataclass

from ..face.smoothing import jitter
from ..face.track import FaceTrack
from .mouth import usable


@dataclass(frozen=True)
class Shake:
    """Landmark jitter: the sigma of white noise on every coordinate, in pixels and in parts of the face's width."""

    pixels: float
    relative: float


def measure_shake(track: FaceTrack) -> Shake | None:
    """Jitter of all landmarks; None where no three frames in a row are known."""
    known = usable(track)
    if track.landmarks is None:
        return None
    pixels = jitter(track.landmarks, known)
    if pixels is None:
        return None
    widths = track.boxes[known][:, 2] - track.boxes[known][:, 0]
    return Shake(pixels, pixels / max(float(widths.mean()), 1.0))
