"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .likeness import Likeness
from .motion import MouthMotion
from .pixels import RegionScores
from .shake import Shake
from .syncnet import SyncScore
from .truth import TruthScores

_DIGITS = 6


@dataclass(frozen=True)
class SoundSync:
    """How the mouth's opening follows the sound, without any network.

    correlation: Pearson's r of opening and articulation as they are. best: the highest over lags of -15 to 15 frames.
    offset_frames, offset_seconds: where it lies, positive when the sound is late; None where that cannot be told, and
        doubt says why. chance: r that unrelated series of this length stay below.
    lags, curve: float64 ``[31]``, r at each lag, NaN where too few frames overlap.
    """

    correlation: float
    best: float
    offset_frames: float | None
    offset_seconds: float | None
    chance: float
    doubt: str | None
    lags: np.ndarray
    curve: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """The clip against its reference, frame by frame of the same index.

    frames: how many were compared, the length of the shorter clip. reference_frames: how many the reference has.
    opening_correlation, opening_rmse: of the two mouths, the latter in distances between the eyes. motion, shake: of
    the reference. inside, outside: of the region that lip sync may repaint.
    """

    frames: int
    reference_frames: int
    opening_correlation: float | None
    opening_rmse: float | None
    motion: MouthMotion | None
    shake: Shake | None
    likeness: Likeness | None
    inside: RegionScores | None
    outside: RegionScores | None


@dataclass(frozen=True)
class Series:
    """Per frame, float64 ``[N]`` with NaN where not known, for plots: see MouthSeries, Loudness and PixelScores.

    silent: bool ``[N]``. reference_opening, psnr_inside, psnr_outside: of the frames compared, empty without a
    reference.
    """

    opening: np.ndarray
    articulation: np.ndarray
    silent: np.ndarray
    reference_opening: np.ndarray
    psnr_inside: np.ndarray
    psnr_outside: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one clip. What could not be measured is None, and ``missing`` says why, by field.

    video, reference, audio: names of the inputs. frames, fps, width, height: of the video. faces: frames in which the
    mouth is known. motion, silent_motion: overall and in the pauses of the sound, which last ``silent_seconds``.
    truth: against that of the synthetic clip it was made from.
    """

    video: str
    reference: str | None
    audio: str | None
    frames: int
    fps: Fraction
    width: int
    height: int
    faces: int
    motion: MouthMotion | None
    silent_seconds: float | None
    silent_motion: MouthMotion | None
    sync: SoundSync | None
    syncnet: SyncScore | None
    shake: Shake | None
    comparison: Comparison | None
    truth: TruthScores | None
    missing: Mapping[str, str]
    series: Series

    def to_dict(self, *, series: bool = True) -> dict[str, Any]:
        """Plain JSON values; numbers that are not finite are None. series: with the values of every frame."""
        plain: dict[str, Any] = _plain(self)
        if not series:
            del plain["series"]
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(part) for part in value.tolist()]
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, float):
        return round(value, _DIGITS) if np.isfinite(value) else None
    return value
