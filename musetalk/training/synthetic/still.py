"""A still face and where its mouth is: what the renderer moves.

Every column of a crop with a level face crosses the same lines from top to bottom: nose base, top of the upper lip,
its inner edge, inner edge of the lower lip, its bottom, chin. A still holds these lines as rows per column; a pose says
where they go (see :mod:`.warp`). Coordinates are pixels of the 256 crop, rows growing downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIZE = 256
MASKED_FROM = 128
"""The first row that the engine hides from the model: nothing above it may move."""

Colour = tuple[float, float, float]

# Indices of the 468-point face mesh, from the left to the right of the picture.
_UPPER_OUTER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
_UPPER_INNER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
_LOWER_INNER = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
_LOWER_OUTER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]
_JAW = [132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361]
_NOSE_BASE = [2, 97, 326]

TEETH: Colour = (232.0, 224.0, 204.0)
"""Teeth in good light."""

# Mouths are about as wide as this part of the way from nose to chin: the vertical unit of a mouth, which unlike its
# width holds in crops that are stretched sideways.
_TALL_OF_NOSE_TO_CHIN = 0.55
_LIP_TINT = np.array([0.93, 0.80, 0.82], np.float32)
_LEAST_LIP = 0.6
# Channels of skin over their mean, in neutral light.
_SKIN_BALANCE = np.array([1.25, 0.97, 0.78])
_LEAST_CHIN = 6.0


@dataclass(frozen=True)
class Rest:
    """The mouth when it is shut and relaxed.

    half: half width. row: of the lip line at the centre. tilt: rows the line falls per column.
    bow: rows its corners hang lower (+) or higher (-) than its centre. upper, lower: heights of the lips.
    """

    half: float
    row: float
    tilt: float
    bow: float
    upper: float
    lower: float


@dataclass(frozen=True, eq=False)
class Still:
    """A face crop with the geometry of its mouth; make one with a constructor of this package.

    image: uint8 RGB ``[256, 256, 3]``, what poses are made of. picture: the same as it was found, where a smile with
        its teeth shown is still there.
    lips: float32 ``[4, 256]``, rows of upper lip top, its inner edge, lower lip's inner edge, its bottom, per column.
    chin: float32 ``[256]``, row of the jaw line per column.
    jaw: float32 ``[256]``, 0..1, how far a column moves with the jaw; 0 at both edges of the crop.
    centre, half: column of the mouth's centre and half its width, as they are in the picture.
    tall: the vertical unit of this face in rows, equal to ``half`` for an average mouth in a crop of true proportions.
    nose: row of the nose base; nothing above it moves.
    face_half: half width of the face at the mouth.
    heights: of the upper and the lower lip in the picture, at the centre.
    smile: 0..1, how broadly the face smiles in the picture with its teeth shown.
    lip: the colour of the lower lip, RGB levels. teeth: the colour of teeth in the light of the picture.
    light: brightness of what else is painted into the mouth, 1 = a well-lit portrait.
    """

    image: np.ndarray
    picture: np.ndarray
    lips: np.ndarray
    chin: np.ndarray
    jaw: np.ndarray
    centre: float
    half: float
    tall: float
    nose: float
    face_half: float
    heights: tuple[float, float]
    smile: float
    rest: Rest
    teeth: Colour
    lip: Colour
    light: float


def still_from_mesh(crop: np.ndarray, points: np.ndarray) -> Still:
    """The still of a face crop, uint8 RGB ``[256, 256, 3]``, with its mesh ``[468, 2+]`` in pixels of the crop.

    A smile's gap between the lips is painted over, since every pose brings its own.
    """
    points = np.asarray(points, np.float32)[:, :2]
    outlines = [points[index] for index in (_UPPER_OUTER, _UPPER_INNER, _LOWER_INNER, _LOWER_OUTER)]
    left, right = ((outlines[0][end] + outlines[1][end]) / 2 for end in (0, -1))
    half, centre = float(right[0] - left[0]) / 2, float(right[0] + left[0]) / 2
    columns = np.arange(SIZE, dtype=np.float32)
    lips = np.stack([_extended(columns, line, half * 0.5) for line in outlines])
    lips = _joined_beyond_corners(lips, np.abs(columns - centre) / half)
    jaw = points[_JAW]
    chin = _extended(columns, jaw, 8.0)
    nose = float(points[_NOSE_BASE, 1].max())

    middle = round(centre)
    tall = _tall(float(chin[middle]) - nose, half)
    upper, lower = float(lips[1, middle] - lips[0, middle]), float(lips[3, middle] - lips[2, middle])
    gap = float(lips[2, middle] - lips[1, middle])
    smile = float(np.clip(gap / tall, 0, 0.5))
    row = float(lips[1, middle] + 0.45 * gap)
    limit = 0.1 * tall
    rest = Rest(
        half=half * (1 - 0.45 * smile),
        row=row,
        tilt=float(right[1] - left[1]) / (2 * half),
        bow=float(np.clip((left[1] + right[1]) / 2 - row, -limit, limit)),
        upper=max(max(upper, 2.0) * (1 + 1.2 * smile), 0.11 * tall),
        lower=max(max(lower, 2.0) * (1 + 0.8 * smile), 0.15 * tall),
    )
    return make_still(
        _without_smile(crop, lips, centre, half, tall) if smile > 0.05 else crop,
        lips,
        chin,
        centre=centre,
        half=half,
        nose=nose,
        face_half=float(jaw[-1, 0] - jaw[0, 0]) / 2,
        heights=(max(upper, 2.0), max(lower, 2.0)),
        smile=min(smile / 0.3, 1.0),
        rest=rest,
        picture=crop,
    )


def make_still(
    image: np.ndarray,
    lips: np.ndarray,
    chin: np.ndarray,
    *,
    centre: float,
    half: float,
    nose: float,
    face_half: float,
    heights: tuple[float, float],
    rest: Rest,
    smile: float = 0.0,
    teeth: Colour | np.ndarray = TEETH,
    picture: np.ndarray | None = None,
) -> Still:
    """A still from its lines (see :class:`Still`), which are kept in order; light and colours are measured.

    teeth: their colour in good light. picture: ``image`` itself by default.
    """
    top, inner, lower, bottom = np.asarray(lips, np.float32)
    inner = np.maximum(inner, top + _LEAST_LIP)
    lower = np.maximum(lower, inner)
    bottom = np.maximum(bottom, lower + _LEAST_LIP)
    chin = np.minimum(np.maximum(chin, bottom + _LEAST_CHIN), SIZE - 2).astype(np.float32)
    columns = np.arange(SIZE, dtype=np.float32)
    share = smooth_step((1.12 - np.abs(columns - centre) / face_half) / 0.42)
    border = smooth_step(np.minimum(columns, SIZE - 1 - columns) / 28)
    middle = int(np.clip(centre, 4, SIZE - 5))
    lip_row = int(np.clip(bottom[middle] - 0.6 * (bottom[middle] - lower[middle]), 0, SIZE - 1))
    lip = image[lip_row, middle - 3 : middle + 4].mean(axis=0)
    light, tint = _light(image, centre, nose, face_half)
    return Still(
        image=image,
        picture=image if picture is None else picture,
        lips=np.stack([top, inner, lower, bottom]),
        chin=chin,
        jaw=(share * border).astype(np.float32),
        centre=centre,
        half=half,
        tall=_tall(float(chin[middle]) - nose, half),
        nose=nose,
        face_half=face_half,
        heights=heights,
        smile=smile,
        rest=rest,
        teeth=_colour(np.asarray(teeth) * tint * light),
        lip=_colour(lip),
        light=light,
    )


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 up to 0, 1 from 1 on, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _light(image: np.ndarray, centre: float, nose: float, face_half: float) -> tuple[float, np.ndarray]:
    """Brightness and colour ``[3]`` of the light on the middle of a face, both 1 where it is that of a good portrait.

    How bright skin is says less about the light than about the skin, so only a part of it counts.
    """
    left, right = (int(np.clip(centre + side * 0.6 * face_half, 0, SIZE)) for side in (-1, 1))
    skin = np.median(image[int(nose) - 45 : int(nose) - 8, left:right].reshape(-1, 3), axis=0) + 1.0
    brightness = float(np.clip((skin.mean() / 165) ** 0.6, 0.5, 1.1))
    tint = np.clip(skin / skin.mean() / _SKIN_BALANCE, 0.6, 1.4) ** 0.4
    return brightness, tint / tint.max()


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _tall(nose_to_chin: float, half: float) -> float:
    return float(np.clip(_TALL_OF_NOSE_TO_CHIN * nose_to_chin, 0.6 * half, 1.25 * half))


def _extended(columns: np.ndarray, line: np.ndarray, tail: float) -> np.ndarray:
    """A line through points ``[n, 2]`` over all columns: beyond its ends it levels out, within about ``tail``."""
    rows = np.interp(columns, line[:, 0], line[:, 1])
    for end, inner, side in ((0, 1, -1), (-1, -2, 1)):
        run, rise = line[end] - line[inner]
        slope = np.clip(rise / (run + 1e-6), -0.35, 0.35)
        beyond = (columns - line[end, 0]) * side
        level = line[end, 1] + side * slope * tail * (1 - np.exp(-np.maximum(beyond, 0) / tail))
        rows = np.where(beyond > 0, level, rows)
    return rows


def _joined_beyond_corners(lips: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Beyond the corners there is one crease: four lines that go their own ways there would tear the cheek."""
    crease = lips.mean(axis=0) + np.array([[-_LEAST_LIP], [0], [0], [_LEAST_LIP]])
    share = np.clip((distance - 0.94) / 0.08, 0, 1)
    return lips * (1 - share) + crease * share


def _without_smile(crop: np.ndarray, lips: np.ndarray, centre: float, half: float, tall: float) -> np.ndarray:
    """The crop with the gap between the lips and the dark corners painted over: they stay where no pose wants them.

    The lips, stretched pale and partly painted over, get colour, and the creases of the smile are softened.
    """
    rows = np.arange(SIZE)[:, None]
    distance = np.abs(np.arange(SIZE) - centre)
    gap = (rows > lips[1] - 1) & (rows < lips[2] + 1) & (distance < half)
    corners = ((distance - half * 0.95) / (half * 0.24)) ** 2 + ((rows - lips.mean(axis=0)) / (tall * 0.22)) ** 2 < 1
    painted = cv2.inpaint(crop, (gap | corners).astype(np.uint8) * 255, 3, cv2.INPAINT_TELEA).astype(np.float32)

    bands = ((rows > lips[0]) & (rows < lips[1] + 1)) | ((rows > lips[2] - 1) & (rows < lips[3]))
    bands = cv2.GaussianBlur((bands & (distance < half)).astype(np.float32), (0, 0), 1.2)
    painted *= 1 - bands[..., None] * (1 - _LIP_TINT)

    softened = cv2.GaussianBlur(painted, (0, 0), 0.14 * half)
    creases = np.exp(
        -(((distance - half * 1.15) / (half * 0.3)) ** 2) - ((rows - lips.mean(axis=0)) / (tall * 0.5)) ** 2
    )
    creases = creases * smooth_step((rows - MASKED_FROM) / 12)
    painted += (softened - painted) * (0.7 * creases[..., None])
    return np.clip(painted + 0.5, 0, 255).astype(np.uint8)
