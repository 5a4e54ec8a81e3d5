"""The light on a drawn face: a height map of its features, and how it shades."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import SCALE, Canvas
from .features import Features


def relief(face: Features, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Height towards the viewer, in pixels of the crop, float32 ``[512, 512]``."""
    x, y = canvas.x - face.centre, canvas.y
    lower = np.where(y > face.widest, (y - face.widest) / (face.jaw_row - face.widest), (y - face.widest) / 120)
    round_off = np.clip(1 - np.abs(x / face.face_half) ** 2.2 - np.abs(lower) ** 2.4 * 0.9, 0.02, 1)
    height = 0.62 * face.face_half * round_off**0.5
    aged = 0.4 + 1.2 * face.age

    def bump(column: float, row: float, wide: float, high: float, amount: float) -> None:
        nonlocal height
        height = height + amount * np.exp(-(((x - column) / wide) ** 2) - ((y - row) / high) ** 2)

    bridge = np.clip((y - face.brow_row) / (face.nose_row - face.brow_row), 0, 1)
    ridge_width = 9 + (face.nose_half * 0.55 - 3) * bridge**2
    fall = 1 / (1 + np.exp((y - face.nose_row + 4) / 2.6))
    rise = np.clip((y - face.brow_row + 6) / 30, 0, 1) * 4 + 13 * bridge**1.5
    height = height + rise * np.exp(-((x / ridge_width) ** 2)) * fall
    bump(0, face.nose_row - 8, face.nose_half * 0.42, 9, 5)
    for side in (-1, 1):
        bump(side * face.nose_half * 0.72, face.nose_row - 6, face.nose_half * 0.30, 7, 4.5)
        bump(side * face.eye_apart, face.eye_row - 2, face.eye_size * 1.25, face.eye_size * 0.62, -7)
        bump(side * face.eye_apart, face.brow_row, face.eye_size * 1.3, 7, 3 + 2 * face.man)
        bump(side * face.eye_apart, face.eye_row, face.eye_size * 0.8, face.eye_size * 0.4, 3.5)
        bump(side * face.face_half * 0.56, face.nose_row - 22, 26, 22, rng.uniform(2, 6))
        # The fold from the nose to the corner of the mouth.
        down = np.clip((y - face.nose_row + 8) / (face.mouth_row - face.nose_row + 14), 0, 1)
        fold = side * (face.nose_half + 3 + (face.mouth_half * 1.12 - face.nose_half) * down)
        height = height - aged * 1.1 * np.exp(-(((x - fold) / 3.2) ** 2)) * np.sin(np.pi * down)
        bump(side * face.mouth_half * 1.06, face.mouth_row + 1, 6, 6, -1.2)
    top, line, _, bottom = (np.interp(canvas.x[0], np.arange(256), row)[None] for row in face.lines)
    height = height + 3.2 * _roll(y, top, line) + 3.8 * _roll(y, line, bottom)
    bump(0, face.mouth_row + face.lower + 7, face.mouth_half * 0.55, 5, -2.6)
    bump(0, face.jaw_row - 14, 22, 12, rng.uniform(2, 6))
    bump(0, (face.nose_row + face.mouth_row - face.upper) / 2, 3.2, 9, -1.2)
    wrinkles = canvas.noise(rng, 9, (5, 0.5)) * (y < face.brow_row) + canvas.noise(rng, 5, (1, 1)) * 0.4
    return (height + 0.35 * face.age * wrinkles).astype(np.float32)


def _roll(y: np.ndarray, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The swelling of a lip between two lines."""
    share = np.clip((y - above) / np.maximum(below - above, 0.3), 0, 1)
    return np.sqrt(share * (1 - share)) * np.clip((below - above) / 4, 0, 1)


def lighting(height: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light (1 = average) and gloss (0..1) on a height map, both ``[512, 512]``."""
    smooth = cv2.GaussianBlur(height, (0, 0), 1.6)
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=SCALE / 8)
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=SCALE / 8)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    side = rng.uniform(-0.8, 0.8)
    light = np.array([side, rng.uniform(-0.9, -0.2), 1.0])
    light /= np.linalg.norm(light)
    lambert = np.clip((-slope_x * light[0] - slope_y * light[1] + light[2]) / length, 0, 1)
    ambient = rng.uniform(0.35, 0.6)
    half_way = light + np.array([0, 0, 1])
    half_way /= np.linalg.norm(half_way)
    facing = np.clip((-slope_x * half_way[0] - slope_y * half_way[1] + half_way[2]) / length, 0, 1)
    return ambient + (1 - ambient) * lambert * 1.12, facing**24
