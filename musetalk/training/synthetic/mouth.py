"""The inside of an open mouth: cavity, tongue and teeth, painted into the gap between the lips."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .still import SIZE, Still

_CAVITY = np.array([46, 18, 22], np.float32)
_SEAM = 0.32
_SEAM_COLOUR = np.array([0.85, 1.0, 1.0], np.float32)  # blood shines through: red is darkened less
_TONGUE = np.array([176, 84, 86], np.float32)


class Shape(NamedTuple):
    """A mouth in a pose, in pixels of the crop.

    lips: float32 ``[4, 256]``, the lines of ``Still.lips`` in the pose; source: the rows they come from;
    shift: float32 ``[256]``, columns to the origin of each column at the lips. half: half width.
    travel: rows the lower teeth go down; chin_drop: rows the chin goes down. opening: the largest gap between the lips.
    """

    lips: np.ndarray
    source: np.ndarray
    shift: np.ndarray
    half: float
    travel: float
    chin_drop: float
    opening: float


def paint_mouth(rows_below: np.ndarray, first: int, still: Still, pose: np.ndarray, shape: Shape) -> None:
    """Paint the gap between the lips into ``rows_below``, the frame's rows from ``first`` on, in place."""
    tall, rest = still.tall, still.rest
    pucker, tongue = float(pose[2]), float(pose[5])
    left, right = max(int(still.centre - shape.half) - 2, 0), min(int(still.centre + shape.half) + 3, SIZE)
    inner, lower = shape.lips[1:3, left:right]
    above, below = max(int(inner.min()) - 3, first), min(int(lower.max()) + 4, SIZE)
    x = np.arange(left, right, dtype=np.float32)[None]
    y = np.arange(above, below, dtype=np.float32)[:, None]
    along = (x - still.centre) / shape.half
    line = rest.row + rest.tilt * (x - still.centre)
    inside = _edge(y - inner) * _edge(lower - y) * np.clip((lower - inner) / 2, 0, 1)

    depth = np.clip(np.minimum(y - inner, lower - y) / (tall * 0.22), 0, 1)[..., None]
    lip = np.array(still.lip, np.float32)
    colour = _CAVITY * depth + (lip * 0.28 + _CAVITY * 0.4) * (1 - depth)

    # The tongue rides on the jaw; its tip rises.
    tip = line + shape.travel * (0.62 - 0.40 * tongue) + tall * (0.06 - 0.08 * tongue)
    round_tip = tall * 0.16 * (1 - np.clip(1 - (along / 0.72) ** 2, 0, 1))
    shown = _edge(y - tip - round_tip, 3.0) * _edge(0.78 - np.abs(along), 0.2) * 0.9
    lit = 0.62 + 0.38 * np.clip((lower - y) / (tall * 0.3), 0, 1)
    colour += (_TONGUE * still.light * lit[..., None] - colour) * shown[..., None]

    arch = 1 - 0.42 * np.clip(np.abs(along), 0, 1) ** 2
    phase = ((x - still.centre) / (still.half * 0.17)) % 1
    gaps = 1 - 0.16 * np.exp(-((np.minimum(phase, 1 - phase) / 0.12) ** 2))
    enamel = np.array(still.teeth, np.float32) * (arch * gaps)[..., None]
    lower_edge = line + shape.travel * 1.02 + tall * (0.02 + 0.06 * along * along)
    shown = _edge(y - lower_edge, 1.6) * _edge(0.72 - np.abs(along), 0.16) * (1 - 0.8 * tongue) * 0.85
    colour += (enamel * 0.55 - colour) * shown[..., None]
    rounded = 0.015 * np.exp(-((np.minimum(phase, 1 - phase) / 0.14) ** 2))  # each tooth has an edge of its own
    upper_edge = line + tall * (0.115 - 0.10 * along * along - rounded - 0.09 * pucker)
    shown = _edge(upper_edge - y, 2.0) * _edge(0.84 - np.abs(along), 0.2)
    colour += (enamel * 0.92 - colour) * shown[..., None]

    # Both lips throw their shade into the mouth, the upper one more.
    gap = np.maximum(lower - inner, 0.5)
    shade = 0.45 + 0.55 * np.clip((y - inner) / np.minimum(tall * 0.10, 0.35 * gap), 0, 1) ** 0.8
    shade = shade * (0.65 + 0.35 * np.clip((lower - y) / np.minimum(tall * 0.07, 0.25 * gap), 0, 1))
    colour *= shade[..., None]
    # The wet inside of the lower lip shows; towards the corners it is the lips that close the gap.
    wet = 0.8 * np.clip(1 - (lower - y) / (tall * 0.09), 0, 1) * np.clip((lower - inner) / (tall * 0.3), 0, 1)
    corner = np.clip((np.abs(along) - 0.78) / 0.22, 0, 1)
    colour += (lip * 0.45 - colour) * np.maximum(wet, corner)[..., None]
    part = rows_below[above - first : below - first, left:right]
    part[:] = np.clip(part + (colour - part) * inside[..., None], 0, 255).astype(np.uint8)


def paint_seam(rows_below: np.ndarray, first: int, still: Still, shape: Shape) -> None:
    """Darken the line where the lips meet, or their inner edges, in place: shut lips are never of one colour."""
    left, right = max(int(still.centre - shape.half) - 2, 0), min(int(still.centre + shape.half) + 3, SIZE)
    inner, lower = shape.lips[1:3, left:right]
    above, below = max(int(inner.min()) - 4, first), min(int(lower.max()) + 5, SIZE)
    along = np.abs(np.arange(left, right, dtype=np.float32) - still.centre) / shape.half
    y = np.arange(above, below, dtype=np.float32)[:, None]
    away = np.maximum(np.maximum(inner - y, y - lower), 0)
    dark = _SEAM * np.exp(-((away / 1.1) ** 2)) * np.clip((1.02 - along) * 12, 0, 1)
    part = rows_below[above - first : below - first, left:right]
    part[:] = (part * (1 - dark[..., None] * _SEAM_COLOUR)).astype(np.uint8)


def _edge(distance: np.ndarray, width: float = 1.8) -> np.ndarray:
    """Coverage 0..1 of a pixel at a signed distance inside a soft edge."""
    return np.clip(distance / width + 0.5, 0, 1)
