"""The bundled photographs as stills, cropped as the engine crops them, and new persons made from them.

Both portraits are in the public domain; see the project's NOTICE.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ...errors import InputError
from ...face.boxes import add_extra_margin
from ...face.tracking import track_faces
from ...profile import Profile
from .bend import Bend
from .still import SIZE, TEETH, Rest, Still, make_still, smooth_step, still_from_mesh

_FOLDER = Path(__file__).resolve().parent / "photos"


@dataclass(frozen=True)
class _Photo:
    """A file, and where it lies in the picture it was cut from: the picture's size and the offset of the part kept."""

    file: str
    size: tuple[int, int]
    offset: tuple[int, int] = (0, 0)


_PHOTOS = {
    "astronaut": _Photo("astronaut.png", (512, 512), (100, 0)),
    "hopper": _Photo("hopper.jpg", (512, 600)),
}
PHOTOS = tuple(_PHOTOS)


def photo_still(
    name: str,
    *,
    margin: int | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
    grow: tuple[float, float] = (1.0, 1.0),
) -> Still:
    """A bundled photograph's face, in the crop that the engine takes of it with the default profile.

    name: one of ``PHOTOS``. margin: pixels below the chin instead of ``Profile.extra_margin``.
    shift, grow: jitter of the crop: how far its box moves (x, y) in widths and heights of itself, and factors on both.

    Raises InputError for another name, and for jitter that puts the box outside the photograph.
    """
    picture, box, mesh = portrait(name)
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = add_extra_margin(box, Profile().extra_margin if margin is None else margin, height)
    reach = (x1 - x0) * grow[0] / 2, (y1 - y0) * grow[1] / 2
    middle = (x0 + x1) / 2 + shift[0] * (x1 - x0), (y0 + y1) / 2 + shift[1] * (y1 - y0)
    x0, x1 = (round(middle[0] + side * reach[0]) for side in (-1, 1))
    y0, y1 = (round(middle[1] + side * reach[1]) for side in (-1, 1))
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise InputError(f"shift {shift} and grow {grow} put the crop {x0, y0, x1, y1} outside {width}x{height}")
    crop = cv2.resize(picture[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LANCZOS4)
    scale = SIZE / (x1 - x0), SIZE / (y1 - y0)
    return still_from_mesh(crop, (mesh - (x0, y0)) * scale)


@lru_cache(maxsize=len(_PHOTOS))
def portrait(name: str) -> tuple[np.ndarray, tuple[int, int, int, int], np.ndarray]:
    """A bundled photograph: uint8 RGB ``[H, W, 3]``, its face box before the margin, and its mesh ``[468, 2]``.

    Of the astronaut it is the part around the head. Box and mesh are in pixels of it, and those that the engine finds
    in the whole picture. The arrays are shared: do not write to them.
    Raises InputError for a name that is not in ``PHOTOS``.
    """
    if name not in _PHOTOS:
        raise InputError(f"there is no photograph {name!r}; use one of {', '.join(PHOTOS)}")
    photo = _PHOTOS[name]
    part = np.asarray(Image.open(_FOLDER / photo.file).convert("RGB"))
    # What the detector sees of a face depends on the size and place of the picture around it.
    whole = np.full((photo.size[1], photo.size[0], 3), 128, np.uint8)
    x, y = photo.offset
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    track = track_faces(whole[None], still=True)
    assert track.mesh is not None
    x0, y0, x1, y1 = (int(value) for value in track.boxes[0])
    return part, (x0 - x, y0 - y, x1 - x, y1 - y), track.mesh[0, :, :2] - photo.offset


def vary(still: Still, rng: np.random.Generator) -> Still:
    """Someone else: the face bent out of shape, with another mouth, skin, beard and light, mirrored or not."""
    bend = Bend.random(rng, rng.uniform(3, 6))
    lips = np.stack([bend.line(line) for line in still.lips])
    rest, centre, half = still.rest, still.centre, still.half
    # The mouth's corners and centre, the nose base, and the sides of the face.
    marks = bend.points(
        np.array(
            [
                [centre - half, rest.row - rest.tilt * half],
                [centre + half, rest.row + rest.tilt * half],
                [centre, rest.row],
                *([centre + side * half / 3, still.nose] for side in (-1, 0, 1)),
                *([np.clip(centre + side * still.face_half, 0, SIZE - 1), rest.row] for side in (-1, 1)),
            ]
        )
    )
    new_half = float(marks[1, 0] - marks[0, 0]) / 2
    new_centre = float(marks[1, 0] + marks[0, 0]) / 2
    before, after = int(np.clip(centre, 0, SIZE - 1)), int(np.clip(new_centre, 0, SIZE - 1))
    growth = (lips[(1, 3), after] - lips[(0, 2), after]) / np.maximum(
        still.lips[(1, 3), before] - still.lips[(0, 2), before], 1
    )
    heights = np.maximum(still.heights * growth, 2)
    full = rng.uniform(0.85, 1.25, 2)
    tall = new_half / half * still.tall
    same = copy.deepcopy(rng)
    image, picture = (
        _recoloured(bend.image(one), lips, new_centre, new_half, marks[3:6, 1].max(), luck)
        for one, luck in ((still.image, rng), (still.picture, same))
    )
    bent = make_still(
        image,
        lips,
        bend.line(still.chin),
        centre=new_centre,
        half=new_half,
        nose=float(marks[3:6, 1].max()),
        face_half=max(still.face_half * float(marks[7, 0] - marks[6, 0]) / (2 * still.face_half), new_half * 1.4),
        heights=(float(heights[0]), float(heights[1])),
        smile=still.smile,
        rest=Rest(
            half=rest.half * new_half / half * rng.uniform(0.94, 1.06),
            row=float(marks[2, 1]),
            tilt=float(marks[1, 1] - marks[0, 1]) / (2 * new_half),
            bow=float(np.clip(rest.bow + rng.normal(0, 0.04 * tall), -0.1 * tall, 0.1 * tall)),
            upper=float(rest.upper * growth[0] * full[0]),
            lower=float(rest.lower * growth[1] * full[1]),
        ),
        teeth=np.array(TEETH) * rng.uniform(0.85, 1.03),
        picture=picture,
    )
    return _mirrored(bent) if rng.random() < 0.5 else bent


def _recoloured(
    image: np.ndarray, lips: np.ndarray, centre: float, half: float, nose: float, rng: np.random.Generator
) -> np.ndarray:
    columns, rows = np.arange(SIZE, dtype=np.float32)[None], np.arange(SIZE, dtype=np.float32)[:, None]
    values = image.astype(np.float32)
    face = smooth_step((1.25 - np.hypot((columns - centre) / 128, (rows - 135) / 120)) / 0.5)[..., None]
    tone = np.exp(-rng.uniform(-0.15, 0.9) * np.array([0.45, 0.65, 0.80]) + rng.normal(0, 0.05, 3))
    values *= 1 + (tone - 1) * face
    mouth = np.clip(rows - lips[0], 0, 1) * np.clip(lips[3] - rows, 0, 1) * (np.abs(columns - centre) < half)
    values *= 1 - cv2.GaussianBlur(mouth.astype(np.float32), (0, 0), 1)[..., None] * rng.uniform(0, 0.35) * (
        0.1,
        1,
        0.8,
    )
    if rng.random() < 0.35:
        away = np.hypot((columns - centre) / 1.15, (rows - nose - 12)) / half
        beard = smooth_step((away - 0.75) * 3) * smooth_step((rows - nose + 16) / 30)
        beard = np.maximum(beard, np.exp(-(((rows - (nose + lips[0]) / 2) / 6) ** 2)) * (away < 1)) * (1 - mouth)
        beard *= smooth_step((1.05 - np.abs(columns - centre) / 118) * 6)
        strands = rng.normal(0.75, 0.25, (SIZE, SIZE))
        beard = cv2.GaussianBlur((beard * strands).astype(np.float32), (0, 0), 0.7)[..., None]
        values *= 1 - beard * rng.uniform(0.2, 0.75)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * rng.uniform(0.6, 1.25)
    values = 128 + (values - 128) * rng.uniform(0.8, 1.15) + rng.normal(0, 8)
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _mirrored(still: Still) -> Still:
    return replace(
        still,
        image=np.ascontiguousarray(still.image[:, ::-1]),
        picture=np.ascontiguousarray(still.picture[:, ::-1]),
        lips=np.ascontiguousarray(still.lips[:, ::-1]),
        chin=still.chin[::-1].copy(),
        jaw=still.jaw[::-1].copy(),
        centre=SIZE - 1 - still.centre,
        rest=replace(still.rest, tilt=-still.rest.tilt),
    )
