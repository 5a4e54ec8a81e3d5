"""Where one person's face is in every frame of a clip, and how it is to be redrawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PassThrough:
    """A run of frames that stay as filmed: first and last frame (inclusive), and why, in a few words."""

    first: int
    last: int
    reason: str


@dataclass(frozen=True)
class Jitter:
    """How much a still face seems to shake, in pixels (see ``smoothing.jitter``).

    raw: of the landmarks as they were found. smoothed: of those that are used.
    """

    raw: float
    smoothed: float


@dataclass(frozen=True)
class FaceTrack:
    """One person's face over the ``M`` frames of a clip; index ``i`` is always frame ``i``.

    boxes: int32 ``[M, 4]``, x0 y0 x1 y1 in pixels by the box rule, before the margin; zeros where not valid.
    valid: bool ``[M]``; a frame without a usable face is False and will pass through untouched.
    landmarks: float32 ``[M, 68, 2]`` iBUG points in pixels, NaN where unknown, or None when boxes were given.
    mesh: float32 ``[M, 468, 2]`` face-mesh points in pixels, NaN where unknown, or None when no mesh was run.
    scores: float32 ``[M]`` presence score 0..1 (1 for boxes given by the caller).
    weights: float32 ``[M]``, how strongly the redrawn face is pasted, 0..1: below 1 in the cross-fade beside a
        frame that passes through, 0 where not valid.
    confidence: float32 ``[M]``, how well the face can be redrawn, 0..1; 0 where none was found.
    passed: the runs of frames that are not valid, in order, with the reason for each.
    turns: float32 ``[M, 3]``: the point (x, y) in pixels that the picture is turned about and the angle in radians
        (clockwise on screen) by which the head is rolled; ``boxes`` are then in the turned picture. None when boxes
        are level.
    jitter: of the landmarks, None where they are not known or too few.
    """

    boxes: np.ndarray
    valid: np.ndarray
    landmarks: np.ndarray | None
    mesh: np.ndarray | None
    scores: np.ndarray
    weights: np.ndarray
    confidence: np.ndarray
    passed: tuple[PassThrough, ...] = ()
    turns: np.ndarray | None = None
    jitter: Jitter | None = None

    def __len__(self) -> int:
        return len(self.valid)
