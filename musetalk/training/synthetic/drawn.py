"""Drawn portraits: faces that exist nowhere, with every proportion, colour and light at random."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Canvas, ellipse_mask
from .features import Features
from .relief import lighting, relief
from .still import SIZE, TEETH, Rest, Still, make_still

_WHITE = np.array([212, 206, 200], np.float32)
_DARK = np.array([16, 12, 12], np.float32)


def draw_face(rng: np.random.Generator) -> Still:
    """A drawn face; the same generator state gives the same face."""
    face = Features.random(rng)
    canvas = Canvas()
    _background(canvas, rng)
    _hair_behind(canvas, face, rng)
    _neck(canvas, face, rng)
    outline = _outline(canvas, face)
    diffuse, gloss = lighting(relief(face, canvas, rng), rng)
    canvas.lay(outline, _skin(canvas, face, rng))
    _eyes(canvas, face, rng)
    light = 1 + (diffuse - 1) * outline
    canvas.shade(light)
    oily = rng.uniform(10, 60) * np.clip(face.skin.mean() / 150, 0.4, 1)
    canvas.colours += (oily * gloss * outline)[..., None]
    _hair_in_front(canvas, face, rng)
    if rng.random() < 0.25:
        _glasses(canvas, face, rng)
    return make_still(
        _photographed(canvas.picture(), rng),
        face.lines,
        face.chin,
        centre=face.centre,
        half=face.mouth_half,
        nose=face.nose_row + 3,
        face_half=face.face_half,
        heights=(face.upper, face.lower),
        rest=Rest(face.mouth_half, face.mouth_row, 0.0, face.bow, face.upper, face.lower),
        teeth=np.array(TEETH) * rng.uniform(0.82, 1.05),
    )


def _background(canvas: Canvas, rng: np.random.Generator) -> None:
    first, second = (rng.uniform(20, 230) + rng.normal(0, 24, 3) for _ in range(2))
    second = first + (second - first) * rng.uniform(0.1, 0.8)
    angle = rng.uniform(0, 2 * np.pi)
    share = (np.cos(angle) * (canvas.x - 128) + np.sin(angle) * (canvas.y - 128)) / SIZE + 0.5
    share = share + canvas.noise(rng, rng.uniform(20, 80)) * rng.uniform(0, 0.4)
    canvas.lay(np.ones_like(share), first)
    canvas.lay(np.clip(share, 0, 1), second)


def _outline(canvas: Canvas, face: Features) -> np.ndarray:
    x, y = canvas.x - face.centre, canvas.y - face.widest
    crown = ellipse_mask(x, y, (face.face_half, 150))
    jaw = ellipse_mask(x, y, (face.face_half, face.jaw_row - face.widest), power=face.power)
    return cv2.GaussianBlur(np.where(y < 0, crown, jaw).astype(np.float32), (0, 0), 1.2)


def _neck(canvas: Canvas, face: Features, rng: np.random.Generator) -> None:
    half = face.face_half * rng.uniform(0.55, 0.78)
    canvas.ellipse(
        (face.centre, 300), (face.face_half * 1.6, 300 - rng.uniform(236, 262)), rng.uniform(10, 220, 3), blur=1
    )
    mask = np.clip(half - np.abs(canvas.x - face.centre) + 0.5, 0, 1) * (canvas.y > 150)
    shade = rng.uniform(0.5, 0.75)
    canvas.lay(mask * np.ones_like(canvas.y), face.skin * shade, 2)


def _skin(canvas: Canvas, face: Features, rng: np.random.Generator) -> np.ndarray:
    """The colours of the face without light: skin, lips, shadow of a beard, blush, spots, brows."""
    tint = np.ones((1, 1, 3), np.float32) * face.skin
    x, y = canvas.x - face.centre, canvas.y
    blotches = canvas.noise(rng, 24) * rng.uniform(2, 5) + canvas.noise(rng, 2.5) * rng.uniform(1, 4)
    tint = tint + blotches[..., None] * np.array([0.7, 1, 1])
    red = rng.uniform(0, 0.25)
    for side in (-1, 1):
        blush = np.exp(-(((x - side * face.face_half * 0.55) / 24) ** 2) - ((y - face.nose_row + 10) / 18) ** 2)
        tint = tint * (1 - red * blush[..., None] * np.array([0.1, 0.7, 0.6]))
    if face.man:
        tint = _beard(canvas, face, tint, rng)
    return _mouth(canvas, face, tint, rng)


def _beard(canvas: Canvas, face: Features, tint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = canvas.x - face.centre, canvas.y
    amount = rng.choice([0.0, rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.9)], p=[0.4, 0.35, 0.25])
    away = np.hypot(x / (face.face_half * 0.80), (y - face.nose_row - 8) / 46)
    jaw = np.clip((away - 0.62) * 3, 0, 1) * np.clip((y - face.nose_row + 26) / 26, 0, 1)
    lip = np.exp(-((x / (face.mouth_half * 0.95)) ** 4)) * np.exp(
        -(((y - (face.nose_row + face.mouth_row - face.upper) / 2 - 1) / 6.5) ** 2)
    )
    chin = np.exp(-((x / (face.mouth_half * 0.6)) ** 4)) * np.clip((y - face.mouth_row - face.lower - 3) / 6, 0, 1)
    style = rng.choice([0, 1, 2], p=[0.6, 0.2, 0.2])
    mask = (np.maximum(np.maximum(jaw, lip), chin), np.maximum(lip, chin), lip)[style]
    strands = np.clip(0.8 + 0.25 * canvas.noise(rng, 2.0, (0.6, 2.0)), 0, 1)
    return tint + (face.hair * 0.75 - tint) * (amount * mask * strands)[..., None]


def _mouth(canvas: Canvas, face: Features, tint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, line, _, bottom = (np.interp(canvas.x[0], np.arange(SIZE), row)[None] for row in face.lines)
    x, y = canvas.x - face.centre, canvas.y
    within = np.abs(x) < face.mouth_half
    lips = np.clip(y - top + 0.5, 0, 1) * np.clip(bottom - y + 0.5, 0, 1) * within
    lips = cv2.GaussianBlur(lips.astype(np.float32), (0, 0), rng.uniform(0.8, 2.4))
    cracks = 1 + 0.03 * canvas.noise(rng, 2.5, (0.7, 4))
    tint = tint + (face.lip * cracks[..., None] - tint) * lips[..., None]
    seam = np.exp(-(((y - line) / 1.3) ** 2)) * np.clip((1.06 - np.abs(x) / face.mouth_half) * 12, 0, 1)
    return tint * (1 - rng.uniform(0.4, 0.7) * seam[..., None] * np.array([0.85, 1, 1]))


def _eyes(canvas: Canvas, face: Features, rng: np.random.Generator) -> None:
    size, iris = face.eye_size, face.eye_size * rng.uniform(0.42, 0.5)
    gaze, slant = rng.normal(0, 1.2, 2), rng.uniform(-0.06, 0.12)
    makeup = rng.uniform(0.2, 0.7) * (1 - face.man)
    brow, arch = rng.uniform(2.2, 4.5) + face.man, rng.uniform(-0.1, 0.2)
    for side in (-1, 1):
        at = face.centre + side * face.eye_apart
        row = face.eye_row
        canvas.ellipse(
            (at, row), (size * 1.25, size * 0.8), face.skin * np.array([0.82, 0.74, 0.72]), alpha=0.7, blur=3
        )
        open_ = size * face.eye_open
        canvas.ellipse((at, row), (size, open_), _WHITE * 0.9, blur=0.6, turn=-side * slant)
        x, y = at + gaze[0], row - open_ * 0.15 + gaze[1] * 0.3
        held = ellipse_mask(canvas.x - at, canvas.y - row, (size, open_), turn=-side * slant)

        def disc(radius: float, colour: np.ndarray, x: float = x, y: float = y, held: np.ndarray = held) -> None:
            canvas.lay(ellipse_mask(canvas.x - x, canvas.y - y, (radius, radius)) * held, colour)

        disc(iris, face.iris * 0.6)
        disc(iris * 0.82, face.iris)
        disc(iris * 0.42, _DARK)
        canvas.ellipse((x + 2, y - 2.5), (1.6, 1.6), np.array([250, 250, 250]), alpha=0.9)
        lid = ellipse_mask(canvas.x - at, canvas.y - row + 1.6, (size * 1.08, open_ + 1.6), turn=-side * slant)
        rim = np.clip(lid - held, 0, 1) * (canvas.y < row + open_ * 0.2)
        canvas.lay(rim * (0.65 + 0.35 * makeup), _DARK + face.skin * 0.12, 0.4)
        canvas.ellipse(
            (at + side * 3, face.brow_row), (size * 1.25, brow), face.hair * 0.7, alpha=0.85, blur=1.4, turn=side * arch
        )
        nostril = face.centre + side * face.nose_half * 0.42
        canvas.ellipse((nostril, face.nose_row - 1), (5.5, 2.6), face.skin * 0.28, alpha=0.9, blur=1.2, turn=side * 0.3)


def _strands(canvas: Canvas, face: Features, rng: np.random.Generator) -> np.ndarray:
    wave = canvas.noise(rng, 2.0, (rng.uniform(0.5, 1.2), rng.uniform(5, 20)))
    return face.hair * np.exp(0.22 * wave + 0.12 * canvas.noise(rng, 30))[..., None]


def _hair_behind(canvas: Canvas, face: Features, rng: np.random.Generator) -> None:
    if rng.random() < 0.12:
        return
    reach = face.face_half + rng.uniform(4, 30)
    length = rng.uniform(70, 200) if not face.man or rng.random() < 0.15 else rng.uniform(40, 70)
    mask = ellipse_mask(canvas.x - face.centre, canvas.y - 80, (reach, max(120, length)), power=2.6)
    mask = mask * np.clip((80 + length - canvas.y) / 12, 0, 1)
    canvas.lay(mask, _strands(canvas, face, rng), 1.5)


def _hair_in_front(canvas: Canvas, face: Features, rng: np.random.Generator) -> None:
    if rng.random() < 0.2:
        return
    line = rng.uniform(4, 48)
    x = canvas.x - face.centre
    part = rng.uniform(-0.5, 0.5)
    edge = line + (x / face.face_half - part) ** 2 * rng.uniform(-12, 46) + canvas.noise(rng, 10, (0.5, 3)) * 2.5
    canvas.lay(np.clip((edge - canvas.y) / 3, 0, 1), _strands(canvas, face, rng), 0.8)


def _glasses(canvas: Canvas, face: Features, rng: np.random.Generator) -> None:
    colour = rng.uniform(0, 120, 3) * (rng.random() < 0.5) + 15
    reach = face.eye_size * rng.uniform(1.5, 1.9), face.eye_size * rng.uniform(1.0, 1.4)
    thick, power = rng.uniform(1.2, 3), rng.uniform(2, 4)
    y = canvas.y - face.eye_row - 3
    for side in (-1, 1):
        x = canvas.x - face.centre - side * face.eye_apart
        outer = ellipse_mask(x, y, (reach[0] + thick, reach[1] + thick), power=power)
        inner = ellipse_mask(x, y, reach, power=power)
        canvas.lay(inner * rng.uniform(0, 0.15), np.array([230, 235, 240]))
        canvas.lay(np.clip(outer - inner, 0, 1), colour, 0.5)
        canvas.ellipse((face.centre + side * (face.eye_apart + reach[0] + 14), face.eye_row - 2), (16, thick), colour)
    canvas.ellipse((face.centre, face.eye_row), (max(face.eye_apart - reach[0], 4), thick), colour)


def _photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A little lens and sensor: blur, then grain."""
    blur = rng.uniform(0.3, 1.1)
    image = cv2.GaussianBlur(image, (0, 0), blur)
    grain = rng.standard_normal(image.shape, np.float32) * rng.uniform(0.5, 4)
    return np.clip(image + grain + 0.5, 0, 255).astype(np.uint8)
