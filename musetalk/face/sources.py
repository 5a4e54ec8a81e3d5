"""Where landmarks come from: one interface for networks and for what the caller already knows."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from .boxes import Box, fit_box
from .landmarks68 import to_68
from .mesh import FaceMesh
from .mesh_tracker import MeshTracker, Select

_MAX_PIXEL = 1_000_000  # far beyond any picture, well within int32


@dataclass(frozen=True)
class TrackRequest:
    """What a source has to know about the clip and the wish before it sees a frame.

    total: frames in the clip. count: how many of them are wanted, from the first. size: width, height in
        pixels.
    select, min_score, still: as in ``track_faces``.
    """

    total: int
    count: int
    size: tuple[int, int]
    fps: Fraction
    select: Select
    min_score: float
    still: bool


@dataclass(frozen=True)
class FaceObservation:
    """What a source knows about one frame; neither landmarks nor a box means no usable face.

    landmarks: float32 ``[68, 2]`` iBUG points in pixels; the box rule makes the box from them.
    box: used as it is where there are no landmarks, or where the rule finds no usable box in them.
    mesh: float32 ``[468, 2]`` in pixels, where the source has one.
    score: presence 0..1.
    """

    landmarks: np.ndarray | None = None
    box: Box | None = None
    mesh: np.ndarray | None = None
    score: float = 0.0


class LandmarkSource(Protocol):
    """A landmark network, or anything else that can say where the face is.

    A network that works in batches takes as many frames from the iterator as it wants before it answers;
    a source that needs no pixels takes none, and then none are decoded.
    """

    @property
    def name(self) -> str:
        """For messages, reports and the avatar's content hash."""

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        """One observation per frame, ``request.count`` in all, in order.

        frames: uint8 RGB ``[H, W, 3]``, lazily decoded.
        Input that does not fit the clip is refused here, before the first frame is taken.
        """


class MeshLandmarks:
    """The built-in source: BlazeFace and the 468-point mesh, following one person."""

    name = "facemesh"

    def __init__(self, mesh: FaceMesh | None = None) -> None:
        self._mesh = mesh

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        if self._mesh is None:
            self._mesh = FaceMesh.load()
        tracker = MeshTracker(
            self._mesh,
            select=request.select,
            min_score=request.min_score,
            fps=request.fps,
            still=request.still,
        )
        for frame in frames:
            found = tracker.step(frame)
            if found is None:
                yield FaceObservation()
            else:
                points, score = found
                yield FaceObservation(landmarks=to_68(points), mesh=points[:, :2], score=score)


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


def load_face_file(path: str | Path) -> GivenBoxes | GivenLandmarks:
    """Boxes or landmarks written by the caller or another program.

    ``.json``: a list with a box ``[x0, y0, x1, y1]`` or null per frame, or an object with either ``boxes``
    (the same list) or ``landmarks`` (68 ``[x, y]`` or null per frame). ``.npz``: an array of either name.
    ``.npy``: ``[M, 4]`` or ``[M, 68, 2]``. Null, zeros or NaN: no face in that frame. One row serves all.

    Raises InputError naming the file.
    """
    path = Path(path)
    readers = {".json": _read_json, ".npz": _read_npz, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path.name}: a face file is .json, .npz or .npy")
    try:
        content = readers[path.suffix.lower()](path)
        if len(content) != 1 or not content.keys() <= {"boxes", "landmarks"}:
            raise InputError(f"needs one of 'boxes' and 'landmarks', has {sorted(content) or 'nothing'}")
        return GivenBoxes(content["boxes"]) if "boxes" in content else GivenLandmarks(content["landmarks"])
    except (OSError, EOFError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"face file {path.name}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        content = {"boxes": content}
    if not isinstance(content, dict) or not all(isinstance(rows, list) for rows in content.values()):
        raise InputError("expected a list of boxes, or an object with 'boxes' or 'landmarks'")
    return {name: _without_null(name, rows) for name, rows in content.items()}


def _without_null(name: str, rows: list[Any]) -> list[Any]:
    missing = np.full((68, 2) if name == "landmarks" else 4, np.nan).tolist()
    return [missing if row is None else row for row in rows]


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _read_npy(path: Path) -> dict[str, Any]:
    array = np.load(path, allow_pickle=False)
    return {"boxes" if array.shape[-1:] == (4,) else "landmarks": array}


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
    if len(rows) not in (request.total, request.count):
        wanted = (
            f"{request.total} frames"
            if request.total == request.count
            else f"{request.count} of {request.total} frames"
        )
        raise InputError(f"{name}: {len(rows)} rows for {wanted}; pass one row per frame, or one row for all")
    return rows[: request.count]


def _box(row: np.ndarray) -> Box:
    x0, y0, x1, y1 = row.tolist()
    return x0, y0, x1, y1


def _text(row: np.ndarray) -> str:
    return " ".join(f"{v:g}" for v in row.tolist())
