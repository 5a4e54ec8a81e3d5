"""The sync strip: mouth and sound as two curves with a playhead, drawn to go under a frame."""

from __future__ import annotations

import cv2
import numpy as np

from ..errors import InputError
from .loudness import runs
from .result import Evaluation

_BACKGROUND, _SILENT, _PLAYHEAD, _TEXT = (24, 24, 28), (44, 44, 52), (235, 235, 235), (235, 235, 235)
_MOUTH, _SOUND = (255, 170, 60), (90, 180, 255)
_LEAST_SIZE = (64, 32)
# Sub-pixel places for OpenCV's lines: 4 fractional bits.
_FRACTION = 4


def strip(
    evaluation: Evaluation, frame: int, width: int, height: int = 96, *, seconds: float | None = 8.0
) -> np.ndarray:
    """The strip at one frame: uint8 RGB ``[height, width, 3]``.

    The mouth's opening (orange) and the articulation of the sound (blue), each from its lowest to its highest value
    in the clip, with pauses of the sound lighter and the frame shown as a line. Some milliseconds to draw.

    frame: 0 to ``evaluation.frames - 1``. seconds: how much is shown, with the frame in the middle except near the ends
    of the clip; None for the whole clip.
    Raises InputError for a frame outside the clip, or a strip too small to show anything.
    """
    if not 0 <= frame < evaluation.frames:
        raise InputError(f"frame {frame} is not in the clip of {evaluation.frames} frames")
    if width < _LEAST_SIZE[0] or height < _LEAST_SIZE[1]:
        raise InputError(
            f"a strip of {width}x{height} is too small; make it at least {_LEAST_SIZE[0]}x{_LEAST_SIZE[1]}"
        )
    first, stop = _window(evaluation, frame, seconds)
    picture = np.full((height, width, 3), _BACKGROUND, np.uint8)
    series = evaluation.series
    scale = width / (stop - first)
    for start, end in runs(series.silent[first:stop]):
        picture[:, int(start * scale) : int(np.ceil(end * scale))] = _SILENT
    text_height = max(12, height // 6)
    for values, colour in ((series.articulation, _SOUND), (series.opening, _MOUTH)):
        _draw_curve(picture, _scaled(values)[first:stop], scale, text_height + 2, colour)
    place = int((frame - first + 0.5) * scale)
    cv2.line(picture, (place, 0), (place, height - 1), _PLAYHEAD, 1)
    _draw_text(picture, evaluation, text_height)
    return picture


def _window(evaluation: Evaluation, frame: int, seconds: float | None) -> tuple[int, int]:
    count = evaluation.frames
    shown = count if seconds is None else min(count, max(2, round(seconds * evaluation.fps)))
    first = min(max(0, frame - shown // 2), count - shown)
    return first, first + shown


def _scaled(values: np.ndarray) -> np.ndarray:
    """0 at the lowest, 1 at the highest known value; half way where nothing changes."""
    known = values[np.isfinite(values)]
    span = np.ptp(known) if len(known) else 0.0
    return (values - known.min()) / span if span > 1e-9 else np.where(np.isfinite(values), 0.5, np.nan)


def _draw_curve(picture: np.ndarray, values: np.ndarray, scale: float, top: int, colour: tuple[int, int, int]) -> None:
    height = picture.shape[0]
    x = (np.arange(len(values)) + 0.5) * scale
    y = top + (height - 3 - top) * (1 - values)
    lines = [
        (np.stack([x[start:end], y[start:end]], axis=1) * 2**_FRACTION).round().astype(np.int32)
        for start, end in runs(np.isfinite(values))
    ]
    cv2.polylines(picture, lines, False, colour, max(1, height // 64), cv2.LINE_AA, _FRACTION)


def _draw_text(picture: np.ndarray, evaluation: Evaluation, height: int) -> None:
    scale = height / 28
    left = 4
    for text, colour in (("mouth", _MOUTH), ("sound", _SOUND), (summary(evaluation), _TEXT)):
        cv2.putText(picture, text, (left, height - 2), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
        left += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] + height // 2


def summary(evaluation: Evaluation) -> str:
    """The verdict in a few ASCII words."""
    if evaluation.motion is None:
        return "no face"
    if evaluation.motion.still:
        return "still mouth"
    if evaluation.sync is None:
        return "no sound"
    text = f"r {evaluation.sync.best:.2f}"
    if evaluation.sync.offset_frames is None:
        return f"{text}, no clear offset"
    return f"{text}, sound {describe_offset(evaluation.sync.offset_frames)}"


def describe_offset(frames: float) -> str:
    """``2.0 frames late`` or ``1.5 frames early``."""
    return f"{abs(frames):.1f} frames {'late' if frames >= 0 else 'early'}"
