"""The picture turned so that a tilted head stands upright, and back: one exact rotation, one resampling each way.

Coordinates are pixel indices: the centre of the top left pixel is (0, 0), as for ``cv2.warpAffine``.
"""

from __future__ import annotations

import cv2
import numpy as np

Turn = tuple[float, float, float]
"""The point (x, y) the picture is turned about and the angle in radians, clockwise on screen, that is taken out."""

_Box = tuple[int, int, int, int]

_RIGHT_EYE, _LEFT_EYE = slice(36, 42), slice(42, 48)
# Nose and eyes: they move with the head and hardly with speech.
_RIGID = slice(27, 48)


def turns_of(landmarks: np.ndarray) -> np.ndarray:
    """Pivot and roll, float32 ``[M, 3]``, of landmarks ``[M, 68, 2]``; NaN where they are unknown.

    The roll is that of the line between the eyes' centres, each a mean of six points; it spans the whole circle.
    """
    points = np.asarray(landmarks, np.float64)
    across = points[:, _LEFT_EYE].mean(axis=1) - points[:, _RIGHT_EYE].mean(axis=1)
    roll = np.arctan2(across[:, 1], across[:, 0])
    turns = np.column_stack([points[:, _RIGID].mean(axis=1), roll]).astype(np.float32)
    turns[~np.isfinite(points).all(axis=(1, 2))] = np.nan
    return turns


def as_turn(row: np.ndarray) -> Turn | None:
    """One row of ``FaceTrack.turns`` as plain numbers; None, a level face, for NaN."""
    x, y, angle = (float(value) for value in row)
    return (x, y, angle) if np.isfinite([x, y, angle]).all() else None


def turn_points(points: np.ndarray, turn: Turn | np.ndarray) -> np.ndarray:
    """Points of the picture, in the picture turned upright.

    points: ``[..., K, 2]``. turn: ``[3]``, or ``[..., 3]`` for a turn of its own per set of points.
    """
    return _rotate(points, turn, -1)


def turn_points_back(points: np.ndarray, turn: Turn | np.ndarray) -> np.ndarray:
    """The inverse of :func:`turn_points`."""
    return _rotate(points, turn, 1)


def _rotate(points: np.ndarray, turn: Turn | np.ndarray, sign: int) -> np.ndarray:
    points, turn = np.asarray(points), np.asarray(turn, np.float64)
    pivot, angle = turn[..., None, :2], sign * turn[..., None, 2]
    x, y = np.moveaxis(points - pivot, -1, 0)
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=-1)
    return (turned + pivot).astype(np.result_type(points, np.float32))


def edges(size: tuple[int, int], turn: Turn | None) -> _Box:
    """The upright rectangle that holds the whole picture of ``size`` (width, height), turned or level."""
    width, height = size
    if turn is None:
        return 0, 0, width, height
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    # Rounded, so that no turn at all has the edges of the level picture.
    turned = turn_points(corners, turn).round(6)
    (x0, y0), (x1, y1) = np.floor(turned.min(axis=0)), np.ceil(turned.max(axis=0))
    return int(x0), int(y0), int(x1), int(y1)


def bounds_in_picture(box: _Box, turn: Turn, size: tuple[int, int]) -> _Box:
    """The part of a picture of ``size`` (width, height) that a box of the turned picture can touch; it may be empty."""
    x0, y0, x1, y1 = box
    corners = np.array([[x0 - 1, y0 - 1], [x1, y0 - 1], [x1, y1], [x0 - 1, y1]], np.float64)
    back = turn_points_back(corners, turn)
    (left, top), (right, bottom) = np.floor(back.min(axis=0)), np.ceil(back.max(axis=0)) + 1
    x0, y0 = (int(value) for value in np.clip((left, top), 0, size))
    x1, y1 = (int(value) for value in np.clip((right, bottom), (x0, y0), size))
    return x0, y0, x1, y1


def cut_upright(
    picture: np.ndarray,
    box: _Box,
    turn: Turn,
    size: tuple[int, int] | None = None,
    interpolation: int = cv2.INTER_LINEAR,
) -> np.ndarray:
    """A box of the turned picture, resampled once from the picture; black where it leaves the picture.

    picture: ``[H, W]`` or ``[H, W, 3]``. size: width and height of the result; default those of the box.
    """
    width, height = (box[2] - box[0], box[3] - box[1]) if size is None else size
    to_picture = _turning(turn, 1) @ _stretching((0, 0, width, height), box)
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, to_picture[:2], (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT)


def lay_back(patch: np.ndarray, box: _Box, turn: Turn, region: _Box, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """What a patch that fills ``box`` of the turned picture puts into ``region`` of the picture, resampled once.

    patch: ``[h, w]`` or ``[h, w, 3]`` of any size. border: how OpenCV continues the patch past its edges.
    """
    x0, y0, x1, y1 = region
    height, width = patch.shape[:2]
    if x0 == x1 or y0 == y1:
        return np.zeros((y1 - y0, x1 - x0, *patch.shape[2:]), patch.dtype)
    origin = np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]], np.float64)
    to_patch = _stretching(box, (0, 0, width, height)) @ _turning(turn, -1) @ origin
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(patch, to_patch[:2], (x1 - x0, y1 - y0), flags=flags, borderMode=border)


def _turning(turn: Turn, sign: int) -> np.ndarray:
    """float64 ``[3, 3]``: from the picture to the turned one (sign -1), or back (1)."""
    x, y, angle = turn
    cos, sin = np.cos(sign * angle), np.sin(sign * angle)
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]])


def _stretching(source: _Box, target: _Box) -> np.ndarray:
    """float64 ``[3, 3]`` that lays one box of pixels over another, edge on edge."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = source, target
    across, down = (u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)
    return np.array([[across, 0, u0 - 0.5 - across * (x0 - 0.5)], [0, down, v0 - 0.5 - down * (y0 - 0.5)], [0, 0, 1]])
