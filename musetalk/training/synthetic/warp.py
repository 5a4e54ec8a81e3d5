"""A still face in a pose: the warp of lips and chin, and the ground truth that comes with it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .mouth import Shape, paint_mouth, paint_seam
from .still import SIZE, Still

_COLUMNS = np.arange(SIZE, dtype=np.float32)
_BOTTOM = SIZE - 1.0
# Openings narrower than this show no inside of the mouth, in pixels.
_LEAST_OPENING = 0.4


class Rendered(NamedTuple):
    """A frame and its truth.

    image: uint8 RGB ``[256, 256, 3]``. opening: the largest gap between the lips, width: of the mouth; both in pixels.
    """

    image: np.ndarray
    opening: float
    width: float


def render(still: Still, pose: np.ndarray) -> Rendered:
    """The still in a pose, ``[6]`` as in ``visemes.PARAMETERS``: jaw, wide, pucker, press, tuck, tongue.

    The picture above the nose base, its bottom row and its outer columns stay as they are.
    """
    pose = _within_reach(still, np.asarray(pose, np.float64))
    shape = mouth_shape(still, pose)
    first = max(int(still.nose) - 4, 0)
    rows = np.arange(first, SIZE, dtype=np.float32)[:, None]
    map_x, map_y = warp_maps(still, shape, rows)
    moved = cv2.remap(still.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    paint_seam(moved, first, still, shape)
    if shape.opening > _LEAST_OPENING:
        paint_mouth(moved, first, still, pose, shape)
    image = still.image.copy()
    image[first:] = moved
    return Rendered(image, shape.opening, 2 * shape.half)


def _within_reach(still: Still, pose: np.ndarray) -> np.ndarray:
    """A pose without what the still's creases forbid: lips drawn out to a smile cannot be rounded all the way."""
    pose = pose.copy()
    pose[2] *= 1 - 0.4 * still.smile
    return pose


def mouth_shape(still: Still, pose: np.ndarray) -> Shape:
    """Where the lines of a still go in a pose."""
    jaw, wide, pucker, press, tuck = (float(value) for value in pose[:5])
    rest, half, tall = still.rest, still.half, still.tall
    new_half = rest.half * (1 + 0.18 * wide - 0.36 * pucker - 0.07 * jaw)
    offset = _COLUMNS - still.centre
    distance = np.abs(offset)
    beyond = distance > new_half
    # Columns come from where they are in the still: inside the mouth in proportion, outside with a pull that fades.
    pulled = distance + (half - new_half) * np.exp(-(distance - new_half) / (half * 0.8))
    origin = np.where(beyond, pulled, distance * (half / new_half))
    origin = np.clip(still.centre + np.sign(offset) * origin, 0, SIZE - 1)
    source = np.stack([np.interp(origin, _COLUMNS, line) for line in still.lips])

    middle = int(np.clip(still.centre, 0, SIZE - 1))
    chin_drop = _limited(0.50 * tall * jaw, 0.8 * (_BOTTOM - still.chin[middle]))
    opening_down = _limited(0.60 * tall * jaw, chin_drop + 0.7 * (still.chin[middle] - still.lips[3, middle]))
    opening_up = tall * (0.08 * jaw + 0.05 * max(wide, 0) * min(jaw * 4, 1))
    along = offset / new_half
    square = np.minimum(along * along, 1)
    # Pointed corners where the mouth is stretched, elliptic ones where it is round: blunt corners look like a puppet's.
    aperture = np.clip(1 - square, 0, 1) ** (0.72 - 0.22 * pucker)
    line = rest.row + rest.tilt * offset + (rest.bow + 0.25 * opening_down - 0.05 * tall * wide) * square
    crease = (source[1] + source[2]) / 2
    ends = still.centre + np.array([-half, half])
    old_ends = np.interp(ends, _COLUMNS, (still.lips[1] + still.lips[2]) / 2)
    moved_ends = np.interp(still.centre + np.array([-new_half, new_half]), _COLUMNS, line) - old_ends
    fade = np.exp(-np.maximum(distance - new_half, 0) / (half * 0.45))
    line = np.where(beyond, crease + np.where(offset < 0, *moved_ends) * fade, line)

    inner = line - (opening_up + 0.07 * tall * tuck) * aperture
    lower = line + opening_down * aperture
    closed = max(press, tuck)
    lower = lower * (1 - closed) + (line - 0.01 * tall * tuck * aperture) * closed
    lower = np.maximum(lower, inner)
    inner = inner + (line - inner) * press
    lower = lower + (line - lower) * press
    stretch = 1 + 0.30 * pucker - 0.10 * jaw - 0.12 * max(wide, 0)
    upper_height = (stretch - 0.45 * press) * rest.upper / still.heights[0]
    lower_height = (stretch - 0.50 * press - 0.40 * tuck) * rest.lower / still.heights[1]
    # A smile's lips keep their height up to the corners; squeezed to a round mouth they would end as a box.
    taper = 1 - still.smile * (1 - np.clip((1 - np.abs(along)) / 0.35, 0, 1) ** 0.6)
    top = inner - np.maximum((source[1] - source[0]) * upper_height * taper, 0.6)
    bottom = lower + np.maximum((source[3] - source[2]) * lower_height * taper, 0.6)
    return Shape(
        lips=np.stack([top, inner, lower, bottom]).astype(np.float32),
        source=source.astype(np.float32),
        shift=(origin - _COLUMNS).astype(np.float32),
        half=new_half,
        travel=0.85 * opening_down,
        chin_drop=chin_drop,
        opening=float((lower - inner).max()),
    )


def _limited(wish: float, limit: float) -> float:
    """``wish`` where it is small, never more than ``limit``."""
    return limit * float(np.tanh(wish / limit)) if limit > 0 else 0.0


def warp_maps(still: Still, shape: Shape, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of ``rows`` come from, float32 ``[n, 256]`` columns and rows."""
    half = still.half
    inner, lower = shape.lips[1:3]
    # The sideways pull fades above and below the lips, to nothing where the moving part begins and ends.
    pull = np.exp(-(((rows - still.rest.row - 0.3 * shape.travel) / (half * 0.8)) ** 2))
    pull = pull * np.clip(np.minimum(rows - rows[0], _BOTTOM - rows) / (0.25 * half), 0, 1)
    map_x = _COLUMNS + shape.shift * pull * np.minimum(1, np.minimum(_COLUMNS, _BOTTOM - _COLUMNS) / 28)

    above = _upper_rows(still, shape, rows)
    below = _lower_rows(still, shape, rows)
    map_y = np.where(rows > (inner + lower) / 2, below, above)
    beyond = np.maximum(np.abs(_COLUMNS - still.centre) - shape.half, 0)
    keep = np.maximum(still.jaw, np.exp(-beyond / (half * 0.5)) * (still.jaw > 0))
    map_y = rows + (map_y - rows) * keep
    return map_x.astype(np.float32), map_y.astype(np.float32)


def _upper_rows(still: Still, shape: Shape, rows: np.ndarray) -> np.ndarray:
    top, inner = shape.lips[:2]
    nose = still.nose - 3
    skin = nose + (rows - nose) * ((shape.source[0] - nose) / np.maximum(top - nose, 0.5))
    lip_scale = (shape.source[1] - shape.source[0]) / np.maximum(inner - top, 0.5)
    lip = shape.source[0] + (rows - top) * lip_scale
    return np.where(rows < nose, rows, np.where(rows < top, skin, np.minimum(lip, shape.source[1])))


def _lower_rows(still: Still, shape: Shape, rows: np.ndarray) -> np.ndarray:
    """Lower lip, then skin, chin and neck in one smooth map that ends at the bottom row, which stays."""
    lower, bottom = shape.lips[2:]
    lip_scale = (shape.source[3] - shape.source[2]) / np.maximum(bottom - lower, 0.5)
    lip = np.maximum(shape.source[2] + (rows - lower) * lip_scale, shape.source[2])
    length, source_length = np.maximum(_BOTTOM - bottom, 1), _BOTTOM - shape.source[3]
    chin = np.clip((still.chin - shape.source[3]) / source_length, 0.05, 0.97)
    chin_at = np.clip((still.chin + shape.chin_drop * still.jaw - bottom) / length, 0.05, 0.985)
    # A Möbius map of 0..1 onto itself is smooth, cannot fold, and has one number to bring the chin where it belongs.
    bend = chin * (1 - chin_at) / (chin_at * (1 - chin))
    share = np.clip((rows - bottom) / length, 0, 1)
    skin = shape.source[3] + source_length * bend * share / (1 + (bend - 1) * share)
    return np.where(rows < bottom, lip, skin)
