"""Which frame of a clip serves as reference, and how a crop's lower edge is moved (spec section 8.2).

Set logic on landmarks; nothing is read or decoded here. All chance comes from the NumPy generator that is passed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import InputError
from ..latents import FACE_SIZE

TOP_K = 0.51
NEIGHBOURS = 5
REACH = 5
MARGIN_MEAN = MARGIN_SPREAD = 10.0

ReferenceMethod = Literal["informative", "random"]
REFERENCE_METHODS: tuple[ReferenceMethod, ...] = ("informative", "random")
MarginMethod = Literal["normal", "uniform"]
MARGIN_METHODS: tuple[MarginMethod, ...] = ("normal", "uniform")

_JAW = slice(0, 16)
_INNER_LIP = slice(60, 67)


def in_box(landmarks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Landmarks in the 256x256 crops that their boxes become.

    landmarks: ``[M, 68, 2]`` pixels. boxes: ``[M, 4]`` x0 y0 x1 y1 in the same picture. Returns float32 ``[M, 68, 2]``.
    """
    corners, extents = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    return ((landmarks - corners) * (FACE_SIZE / extents)).astype(np.float32)


def pose_distance(landmarks: np.ndarray, target: int) -> np.ndarray:
    """How far each frame's jaw line (points 0 to 15) is from the target's: mean over points, float ``[M]``.

    landmarks: ``[M, 68, 2]`` as :func:`in_box` gives them.
    """
    return _distance(landmarks[:, _JAW], target)


def mouth_distance(landmarks: np.ndarray, target: int) -> np.ndarray:
    """The same of the inner lip, points 60 to 66."""
    return _distance(landmarks[:, _INNER_LIP], target)


def _distance(points: np.ndarray, target: int) -> np.ndarray:
    return np.linalg.norm(points - points[target], axis=2).mean(axis=1)


def informative_frames(landmarks: np.ndarray, target: int, top_k: float = TOP_K) -> np.ndarray:
    """The frames that show the target's pose with another mouth: int ``[n]``, ascending, maybe none, never the target.

    They are among the ``K = int(top_k * M)`` nearest in pose, the target left out, and among the K farthest in mouth.
    """
    count = int(top_k * len(landmarks))
    # Stable, so that equal distances (a still picture) do not hang on the sorting algorithm.
    by_pose = np.argsort(pose_distance(landmarks, target), kind="stable")
    by_mouth = np.argsort(-mouth_distance(landmarks, target), kind="stable")
    others = by_pose[by_pose != target]
    return np.intersect1d(others[:count], by_mouth[:count])


def select_reference(
    landmarks: np.ndarray,
    target: int,
    rng: np.random.Generator,
    *,
    frames: int = 1,
    top_k: float = TOP_K,
    neighbours: int = NEIGHBOURS,
) -> int:
    """Selective information sampling: a frame of the target's pose whose mouth tells nothing about the target's.

    landmarks: ``[M, 68, 2]`` as :func:`in_box` gives them. frames: consecutive targets in the sample, T.
    One of :func:`informative_frames`, each as likely; where there is none, or the one drawn is fewer than
    ``neighbours`` frames away, :func:`random_reference`. Never the target itself. Raises InputError for a clip of one
    frame.
    """
    _check(len(landmarks), target)
    informative = informative_frames(landmarks, target, top_k)
    if len(informative):
        chosen = int(rng.choice(informative))
        if abs(chosen - target) >= neighbours:
            return chosen
    return random_reference(len(landmarks), target, rng, frames=frames, neighbours=neighbours)


def random_reference(
    count: int, target: int, rng: np.random.Generator, *, frames: int = 1, neighbours: int = NEIGHBOURS
) -> int:
    """Any frame of ``count`` at most ``5 * frames`` away from the target and at least ``neighbours``, each as likely.

    In a clip too short for that, one of those farthest from the target. Upstream clips what falls outside the clip to
    its ends, which near an end may give the target itself; here only frames of the clip are drawn.
    Raises InputError for a clip of one frame.
    """
    _check(count, target)
    away = np.abs(np.arange(count) - target)
    candidates = np.flatnonzero((away >= neighbours) & (away <= REACH * frames))
    if not len(candidates):
        candidates = np.flatnonzero(away == away.max())
    return int(rng.choice(candidates))


def draw_margin(
    rng: np.random.Generator,
    *,
    mean: float = MARGIN_MEAN,
    spread: float = MARGIN_SPREAD,
    method: MarginMethod = "normal",
) -> int:
    """Dynamic margin sampling: whole pixels by which a crop's lower edge moves down, ``mean - spread`` to the sum.

    method: a normal distribution of that mean and deviation, clipped; or uniform. Never negative.
    """
    low, high = mean - spread, mean + spread
    drawn = np.clip(rng.normal(mean, spread), low, high) if method == "normal" else rng.uniform(low, high)
    return int(max(0.0, drawn))


def _check(count: int, target: int) -> None:
    if not 0 <= target < count:
        raise InputError(f"frame {target} is not one of the clip's {count}")
    if count < 2:
        raise InputError("a clip of one frame has no other frame to serve as reference")
