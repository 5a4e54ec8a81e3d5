"""Clips of several people with known truth, composed of two public-domain portraits.

``compose`` moves cut-out portraits over a background; everything is a function of the frame number, so a clip is the
same each time it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

Place = tuple[float, float, float]
"""Centre (x, y) of the face box and its width, in pixels."""
Course = Callable[[int], Place | None]
"""Where somebody is in frame ``i``; None while they are away."""


@dataclass(frozen=True)
class Actor:
    """A portrait cut out: uint8 ``[h, w, 3]``, matte float32 ``[h, w]``, and its face box (xyxy) by the box rule."""

    picture: np.ndarray
    matte: np.ndarray
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Truth:
    """Where one person is: boxes int32 ``[n, 4]`` by the box rule (zeros while away), and ``shown`` float32 ``[n]``,
    the part of the face box that is within the picture and not behind anybody.
    """

    boxes: np.ndarray
    shown: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """bool ``[n]``: frames in which the face must be found."""
        return self.shown > 0.85

    @property
    def hidden(self) -> np.ndarray:
        """bool ``[n]``: frames in which there is nothing to find."""
        return self.shown < 0.15


@cache
def hopper() -> Actor:
    return _actor(
        ROOT / "tests/data/grace_hopper.jpg", (170, 107, 357, 333), ((268, 185, 118, 175), (270, 600, 240, 250))
    )


@cache
def astronaut() -> Actor:
    return _actor(ROOT / "demo/astronaut.png", (179, 60, 272, 176), ((225, 105, 76, 95), (200, 420, 180, 240)))


def plain(width: int = 480, height: int = 270, color: tuple[int, int, int] = (96, 112, 104)) -> np.ndarray:
    """A wall lit from one side: uint8 ``[height, width, 3]``."""
    shade = np.linspace(0.8, 1.2, width)[None, :, None]
    return np.broadcast_to(np.clip(np.array(color) * shade, 0, 255), (height, width, 3)).astype(np.uint8)


def textured(width: int = 480, height: int = 270, seed: int = 0) -> np.ndarray:
    """Coloured patches of a few sizes: uint8 ``[height, width, 3]``."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.uniform(0, 255, (cells, 2 * cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for cells in (3, 8, 20)
    ]
    return np.clip(np.mean(layers, axis=0), 0, 255).astype(np.uint8)


def line(start: Place, end: Place, count: int) -> Course:
    """Straight from the place in frame 0 to the one in frame ``count - 1``."""
    return lambda i: tuple((np.array(start) + (np.array(end) - start) * i / max(count - 1, 1)).tolist())


def stay(*place: float) -> Course:
    return lambda i: place  # type: ignore[return-value]


def compose(
    cast: Sequence[tuple[Actor, Course]],
    count: int,
    background: np.ndarray | Callable[[int], np.ndarray],
    *,
    light: Callable[[int], float] = lambda i: 1.0,
) -> tuple[np.ndarray, list[Truth]]:
    """A clip uint8 ``[count, H, W, 3]`` and the truth of everyone in ``cast``, who are listed from back to front.

    background: uint8 ``[H, W, 3]``, one or one per frame. light: what the brightness of frame ``i`` is multiplied by.
    """
    frames, truths = [], [Truth(np.zeros((count, 4), np.int32), np.zeros(count, np.float32)) for _ in cast]
    for i in range(count):
        canvas = (background(i) if callable(background) else background).astype(np.float32)
        for depth, (actor, course) in enumerate(cast):
            truth, place = truths[depth], course(i)
            picture, matte = _placed(actor, place, (canvas.shape[1], canvas.shape[0]))
            for behind in truths[:depth]:
                behind.shown[i] *= 1 - _mean_in(matte, behind.boxes[i])
            canvas += matte[..., None] * (picture - canvas)
            if place is not None:
                truth.boxes[i] = _box(actor, place)
                truth.shown[i] = _mean_in(np.ones(canvas.shape[:2], np.float32), truth.boxes[i])
        frames.append(np.clip(canvas * light(i), 0, 255).astype(np.uint8))
    return np.stack(frames), truths


def _placed(actor: Actor, place: Place | None, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The portrait and its matte on a canvas of ``size`` (width, height)."""
    if place is None:
        return np.zeros((size[1], size[0], 3), np.float32), np.zeros((size[1], size[0]), np.float32)
    x, y, _ = place
    scale = _scale(actor, place)
    layers = np.dstack([actor.picture, actor.matte * 255]).astype(np.float32)
    small = cv2.resize(layers, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # What the rounding of the size has made of the scale.
    sx, sy = small.shape[1] / layers.shape[1], small.shape[0] / layers.shape[0]
    x0, y0, x1, y1 = actor.box
    shift = np.array([[1, 0, x - (x0 + x1) / 2 * sx], [0, 1, y - (y0 + y1) / 2 * sy]])
    laid = cv2.warpAffine(small, shift, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return laid[..., :3], laid[..., 3] / 255


def _scale(actor: Actor, place: Place) -> float:
    return place[2] / (actor.box[2] - actor.box[0])


def _box(actor: Actor, place: Place) -> np.ndarray:
    x0, y0, x1, y1 = actor.box
    half = np.array([x1 - x0, y1 - y0]) / 2 * _scale(actor, place)
    centre = np.array(place[:2])
    return np.concatenate([centre - half, centre + half]).round()


def _mean_in(values: np.ndarray, box: np.ndarray) -> float:
    """The mean over a box, of values that are 0 outside the picture."""
    x0, y0, x1, y1 = box.tolist()
    area = (x1 - x0) * (y1 - y0)
    return float(values[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)].sum() / area) if area else 0.0


def _actor(path: Path, box: tuple[int, int, int, int], ellipses: Sequence[tuple[int, int, int, int]]) -> Actor:
    """Cut out by soft ellipses (centre x y, radii) of head and shoulders."""
    picture = np.array(Image.open(path).convert("RGB"))
    matte = np.zeros(picture.shape[:2], np.float32)
    for x, y, across, down in ellipses:
        cv2.ellipse(matte, (x, y), (across, down), 0, 0, 360, 1.0, -1)
    return Actor(picture, cv2.GaussianBlur(matte, (0, 0), 3), box)
