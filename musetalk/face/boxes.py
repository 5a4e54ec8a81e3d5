"""The box rule: which rectangle of the frame the model repaints (spec 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .track import FaceTrack
from .upright import Turn, as_turn, edges, turn_points

Box = tuple[int, int, int, int]


def face_box(landmarks: np.ndarray, size: tuple[int, int], bbox_shift: int = 0, parity: bool = False) -> Box | None:
    """The box of 68 landmarks: centred in height on landmark 29, down to the chin, as wide as the landmarks.

    landmarks: ``[68, 2]`` pixels; truncated to whole pixels as upstream does.
    size: width, height of the frame.
    bbox_shift: pixels to move the middle line, positive = down (more mouth opening).
    parity: keep upstream's clamping, which is at the top edge only: the box may leave the frame to the
        right and below, and a face that starts left of the frame has no box. Otherwise it is clamped on all
        four sides.

    Returns x0, y0, x1, y1 (the last two exclusive) before the extra margin; None when nothing usable is left.
    """
    box = _box_rule(landmarks, bbox_shift)
    if box is None:
        return None
    x0, top, x1, bottom = box
    return fit_box((x0, max(0, top), x1, bottom), size, parity)


def turned_box(landmarks: np.ndarray, turn: Turn, size: tuple[int, int], bbox_shift: int = 0) -> Box | None:
    """The box rule in the picture turned upright, clamped to what the turned picture can show.

    landmarks: ``[68, 2]`` as filmed. Returns x0, y0, x1, y1 in the turned picture, where it may reach past the slanted
    edges of the picture itself; with no angle the same as :func:`face_box`.
    """
    box = _box_rule(turn_points(landmarks, turn), bbox_shift)
    if box is None:
        return None
    left, top, right, bottom = edges(size, turn)
    x0, y0, x1, y1 = max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _box_rule(landmarks: np.ndarray, bbox_shift: int) -> Box | None:
    """The rule without a picture around it; the box may have no area. None for landmarks that are not known."""
    if not np.isfinite(landmarks).all():
        return None
    points = np.asarray(landmarks).astype(np.int32)
    points[29, 1] += bbox_shift
    middle, bottom = int(points[29, 1]), int(points[:, 1].max())
    return int(points[:, 0].min()), middle - (bottom - middle), int(points[:, 0].max()), bottom


def fit_box(box: Box, size: tuple[int, int], parity: bool = False) -> Box | None:
    """The part of a box inside a frame of ``size`` (width, height), or None when it is empty.

    parity: the box as it is, or None where upstream calls it unusable (empty, or starting left of the frame).
    """
    x0, y0, x1, y1 = box
    if parity:
        return box if x1 > x0 >= 0 and y1 > y0 else None
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(size[0], x1), min(size[1], y1)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def shift_box(box: Box, bbox_shift: int) -> Box:
    """The same effect as ``face_box``'s shift on a box whose landmarks are not known."""
    x0, y0, x1, y1 = box
    return x0, max(0, y0 + 2 * bbox_shift), x1, y1


def add_extra_margin(box: Box, margin: int, height: int) -> Box:
    """Move the bottom ``margin`` pixels down, not below a frame ``height`` pixels high (v1.5 profile)."""
    x0, y0, x1, y1 = box
    return x0, y0, x1, min(y1 + margin, height)


@dataclass(frozen=True)
class FacePlace:
    """The part of a frame that is redrawn: a box with its extra margin.

    turn: the box lies in the picture turned by it; None where the box is level.
    """

    box: Box
    turn: Turn | None


def face_place(track: FaceTrack, index: int, margin: int, size: tuple[int, int]) -> FacePlace:
    """Where frame ``index`` of a track is redrawn. margin: pixels, see ``Profile.extra_margin``. size: of the frame."""
    x0, y0, x1, y1 = (int(v) for v in track.boxes[index])
    turn = None if track.turns is None else as_turn(track.turns[index])
    return FacePlace(add_extra_margin((x0, y0, x1, y1), margin, edges(size, turn)[3]), turn)


@dataclass(frozen=True)
class ShiftRange:
    """How far ``bbox_shift`` can usefully move the middle line; quirk 9's swapped ends are put right.

    Measured where the boxes are: in the turned pictures of an upright track.

    up: pixels to landmark 28, so ``-up`` is the lowest useful shift (mouth opens less).
    down: pixels to landmark 30, the highest useful shift (mouth opens more).
    up_fraction, down_fraction: the same as parts of the mean box height, which hold at any resolution.
    """

    up: int
    down: int
    up_fraction: float
    down_fraction: float

    def __str__(self) -> str:
        return (
            f"bbox_shift is useful from {-self.up} px (up, mouth opens less) "
            f"to {self.down:+d} px (down, mouth opens more), "
            f"which is {-self.up_fraction:.1%} to {self.down_fraction:+.1%} of the face box height"
        )


def shift_range(track: FaceTrack) -> ShiftRange | None:
    """The useful range of ``bbox_shift`` over the valid frames; None when their landmarks are not known."""
    if track.landmarks is None or not track.valid.any():
        return None
    known = track.valid & np.isfinite(track.landmarks).all(axis=(1, 2))
    if not known.any():
        return None
    points = track.landmarks[known]
    if track.turns is not None:
        turns = track.turns[known]
        turned = np.isfinite(turns).all(axis=1)
        points[turned] = turn_points(points[turned], turns[turned])
    y = points[:, 28:31, 1].astype(np.int32)
    up, down = float((y[:, 1] - y[:, 0]).mean()), float((y[:, 2] - y[:, 1]).mean())
    boxes = track.boxes[known]
    height = float((boxes[:, 3] - boxes[:, 1]).mean())
    return ShiftRange(int(up), int(down), up / height, down / height)
