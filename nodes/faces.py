"""Faces found by ComfyUI's own nodes, as the engine takes them; nothing here needs ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..musetalk.errors import InputError
from ..musetalk.face.landmarks68 import to_68
from ..musetalk.face.sources import Select

_MESH_POINTS = 468  # further points are the irises
_IBUG_POINTS = 68


def landmark_rows(landmarks: Any, size: tuple[int, int], select: Select = "largest") -> np.ndarray:
    """A FACE_LANDMARKS, one list of faces per frame, to float32 ``[F, 68, 2]`` in pixels, NaN without a face.

    size: width and height of the footage; landmarks of the same footage at another size are scaled.
    Raises InputError for another layout.
    """
    if not isinstance(landmarks, dict) or not isinstance(landmarks.get("frames"), Sequence):
        raise InputError("the landmarks input is no FACE_LANDMARKS; connect a face landmark detector")
    height, width = landmarks.get("image_size") or size[::-1]
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    faces = [[_points(face) * scale for face in frame] for frame in landmarks["frames"]]
    return _follow(faces, [[_extent(face) for face in frame] for frame in faces], select, (_IBUG_POINTS, 2))


def box_rows(boxes: Any, select: Select = "largest") -> np.ndarray:
    """A BOUNDING_BOX to float32 ``[F, 4]``, x0 y0 x1 y1 in pixels, NaN without a box.

    One box, a list of boxes (one frame), or a list of boxes per frame. Raises InputError for another layout.
    """
    frames = [boxes] if isinstance(boxes, dict) else boxes
    if not isinstance(frames, Sequence) or not len(frames):
        raise InputError("the boxes input is no BOUNDING_BOX; connect a face detector")
    if all(isinstance(entry, dict) for entry in frames):
        frames = [frames]
    rows = [[_box(box) for box in frame] for frame in frames]
    return _follow(rows, rows, select, (4,))


def _follow(
    faces: list[list[np.ndarray]], extents: list[list[np.ndarray]], select: Select, shape: tuple[int, ...]
) -> np.ndarray:
    """One face per frame: the selected one of the first frame that has any, then the nearest to where it was."""
    chosen = np.full((len(faces), *shape), np.nan, np.float32)
    place: np.ndarray | None = None if isinstance(select, str) else np.array(select, np.float32)
    for index, (candidates, boxes) in enumerate(zip(faces, extents, strict=True)):
        if not candidates:
            continue
        table = np.stack(boxes)
        centres = (table[:, :2] + table[:, 2:]) / 2
        if place is None:
            best = int(np.argmax((table[:, 2:] - table[:, :2]).prod(axis=1)))
        else:
            best = int(np.argmin(np.linalg.norm(centres - place, axis=1)))
        chosen[index], place = candidates[best], centres[best]
    return chosen


def _points(face: Any) -> np.ndarray:
    points = np.asarray(face["landmarks_xy"] if isinstance(face, dict) else face, np.float32)
    if points.ndim == 2 and len(points) == _IBUG_POINTS:
        return points[:, :2]
    if points.ndim == 2 and len(points) >= _MESH_POINTS:
        return to_68(points[:_MESH_POINTS])
    raise InputError(
        f"the landmarks input has faces of {list(points.shape)} points; MuseTalk reads the 478-point mesh, its first "
        f"{_MESH_POINTS} points, or {_IBUG_POINTS} iBUG points"
    )


def _extent(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _box(box: Any) -> np.ndarray:
    try:
        x, y, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the boxes input needs x, y, width and height for each box") from error
    return np.array([x, y, x + width, y + height], np.float32)
