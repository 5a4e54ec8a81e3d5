"""Faces the caller knows already: boxes or landmarks, one face or several per frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .boxes import Box, fit_box
from .follow import follow
from .sources import FaceObservation, TrackRequest, alone

_MAX_PIXEL = 1_000_000  # far beyond any picture, well within int32


class GivenFaces:
    """All faces of every frame, found by another program: ``faces[i]`` are those of frame ``i``, in any order.

    One list serves every frame, if there is only one. An empty list means nobody is there.
    """

    name = "given faces"

    def __init__(self, faces: Sequence[Sequence[FaceObservation]]) -> None:
        if not len(faces):
            raise InputError("given faces: no frames at all; pass one list of faces per frame")
        self._faces = [list(frame) for frame in faces]

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        return follow(self._for(request), request)

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        return iter(self._for(request))

    def _for(self, request: TrackRequest) -> list[list[FaceObservation]]:
        _check_count(len(self._faces), request, self.name)
        return self._faces * request.count if len(self._faces) == 1 else self._faces[: request.count]


class GivenBoxes:
    """Boxes the caller has: ``[M, 4]`` x0 y0 x1 y1 in pixels by the box rule, before the extra margin.

    One row (``[4]`` or ``[1, 4]``) serves every frame. A row of zeros or NaN means no face in that frame.
    Fractions are truncated; parts outside the frame are cut off.
    """

    name = "given boxes"

    def __init__(self, boxes: ArrayLike) -> None:
        rows = _rows(boxes, (4,), self.name, "x0 y0 x1 y1")
        rows[np.isnan(rows).all(axis=1)] = 0
        _refuse_partial(rows, self.name)
        used = rows.any(axis=1)
        if used.any() and np.abs(rows[used]).max() <= 1:
            raise InputError("given boxes: all values are within 0..1; pass pixels, not parts of the picture")
        for i in np.flatnonzero(used & ((rows[:, 2] <= rows[:, 0]) | (rows[:, 3] <= rows[:, 1]))):
            raise InputError(f"given boxes: row {i} is {_text(rows[i])}; x0 y0 x1 y1 need x1 > x0 and y1 > y0")
        self._boxes = rows.astype(np.int64)

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        boxes = _per_frame(self._boxes, request, self.name)
        for i in np.flatnonzero(boxes.any(axis=1)):
            if fit_box(_box(boxes[i]), request.size) is None:
                width, height = request.size
                raise InputError(f"given boxes: row {i} is {_text(boxes[i])}, outside the {width}x{height} picture")
        return (FaceObservation(box=_box(row), score=1.0) if row.any() else FaceObservation() for row in boxes)

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        return alone(self.observe(frames, request))


class GivenLandmarks:
    """Landmarks the caller has: ``[M, 68, 2]`` iBUG points in pixels.

    One row (``[68, 2]`` or ``[1, 68, 2]``) serves every frame. A row of zeros or NaN means no face in that
    frame.
    """

    name = "given landmarks"

    def __init__(self, landmarks: ArrayLike) -> None:
        rows = _rows(landmarks, (68, 2), self.name, "68 points x y")
        rows[~rows.any(axis=(1, 2))] = np.nan
        _refuse_partial(rows, self.name)
        known = rows[np.isfinite(rows).all(axis=(1, 2))]
        if len(known) and np.abs(known).max() <= 1:
            raise InputError("given landmarks: all values are within 0..1; pass pixels, not parts of the picture")
        self._landmarks = rows.astype(np.float32)

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        landmarks = _per_frame(self._landmarks, request, self.name)
        return (
            FaceObservation() if np.isnan(points).any() else FaceObservation(landmarks=points, score=1.0)
            for points in landmarks
        )

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        return alone(self.observe(frames, request))


def _rows(values: ArrayLike, row: tuple[int, ...], name: str, meaning: str) -> np.ndarray:
    """A float64 copy ``[M, *row]``; a single row gets its leading axis."""
    try:
        rows = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: not numbers of one shape ({meaning} per frame): {error}") from error
    if rows.shape == row:
        rows = rows[None]
    if rows.shape[1:] != row or not len(rows):
        raise InputError(f"{name}: shape {list(rows.shape)}, expected [frames, {', '.join(map(str, row))}] ({meaning})")
    return rows


def _refuse_partial(rows: np.ndarray, name: str) -> None:
    """A row is all numbers, or all NaN (no face); a mixture, or a number no picture has, is a mistake."""
    flat = rows.reshape(len(rows), -1)
    plausible = (np.abs(flat) <= _MAX_PIXEL).all(axis=1)
    for i in np.flatnonzero(~plausible & ~np.isnan(flat).all(axis=1)):
        raise InputError(
            f"{name}: row {i} holds NaN beside numbers, or a number over {_MAX_PIXEL}; "
            "a frame without a face is a row of only NaN or zeros"
        )


def _per_frame(rows: np.ndarray, request: TrackRequest, name: str) -> np.ndarray:
    """``[count, ...]`` from one row for all frames, one per frame of the clip, or one per frame wanted."""
    if len(rows) == 1:
        return np.repeat(rows, request.count, axis=0)
    _check_count(len(rows), request, name)
    return rows[: request.count]


def _check_count(rows: int, request: TrackRequest, name: str) -> None:
    if rows not in (1, request.total, request.count):
        wanted = (
            f"{request.total} frames"
            if request.total == request.count
            else f"{request.count} of {request.total} frames"
        )
        raise InputError(f"{name}: {rows} rows for {wanted}; pass one row per frame, or one row for all")


def _box(row: np.ndarray) -> Box:
    x0, y0, x1, y1 = row.tolist()
    return x0, y0, x1, y1


def _text(row: np.ndarray) -> str:
    return " ".join(f"{v:g}" for v in row.tolist())
