"""What the mouth of a tracked face does: how far it is open and how wide, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..face.smoothing import jitter
from ..face.track import FaceTrack

# iBUG points: pairs of upper and lower inner lip, corners of the inner lips, and what talking does not move.
_UPPER, _LOWER = [61, 62, 63], [67, 66, 65]
_CORNERS = (60, 64)
_STEADY = slice(17, 48)


@dataclass(frozen=True)
class MouthSeries:
    """A mouth over ``M`` frames, in units of the distance between the centres of the eyes.

    opening: float64 ``[M]``, from the upper to the lower inner lip, down the face; NaN where the face is not known.
    width: float64 ``[M]``, between the corners of the mouth; NaN likewise.
    eye_distance: mean in pixels; NaN where no face is known.
    noise: how much ``opening`` is expected to shake by itself: the jitter of brows, nose and eyes; 0 where too few
        frames are known to tell.
    """

    opening: np.ndarray
    width: np.ndarray
    eye_distance: float
    noise: float

    @property
    def known(self) -> np.ndarray:
        """bool ``[M]``: frames with a mouth."""
        return np.isfinite(self.opening)


def measure_mouth(track: FaceTrack) -> MouthSeries:
    """The mouth of a track with landmarks.

    The opening is measured across the line through the eyes, so rolling the head changes nothing, and has a sign:
    lips that touch give values around zero instead of a positive bias. Turning the head sideways shortens the distance
    of the eyes and so makes the mouth look larger.
    """
    known = usable(track)
    opening, width = np.full((2, len(track)), np.nan)
    if track.landmarks is None or not known.any():
        return MouthSeries(opening, width, float("nan"), 0.0)
    points = track.landmarks[known].astype(np.float64)
    across = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
    distance = np.maximum(np.linalg.norm(across, axis=1), 1e-6)
    down = np.stack([-across[:, 1], across[:, 0]], axis=1) / distance[:, None]
    gap = (points[:, _LOWER] - points[:, _UPPER]).mean(axis=1)
    opening[known] = (gap * down).sum(axis=1) / distance
    left, right = _CORNERS
    width[known] = np.linalg.norm(points[:, right] - points[:, left], axis=1) / distance
    eye_distance = float(distance.mean())
    shake = jitter(track.landmarks[:, _STEADY], known) or 0.0
    return MouthSeries(opening, width, eye_distance, shake / eye_distance)


def usable(track: FaceTrack) -> np.ndarray:
    """bool ``[M]``: frames whose face is valid and whose landmarks are all known."""
    if track.landmarks is None:
        return np.zeros(len(track), bool)
    known: np.ndarray = track.valid & np.isfinite(track.landmarks).all(axis=(1, 2))
    return known
