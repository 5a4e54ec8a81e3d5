"""How far a mouth is open in pictures of a known face, in pixels: what predictions are measured with.

A still can be rendered in any pose, so a face is its own measuring device: a ridge regression from the colours around
the mouth to the opening is fitted to renderings of this very still in this very light. Being linear, it reads a blend
of two mouths as the opening between the two.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from ...errors import InputError
from .still import SIZE, Still
from .take import LONGEST, Take
from .visemes import PARAMETERS, random_pose, under_press
from .warp import render

_WIDTH, _HEIGHT = 48, 32
# The window of the mouth, in half widths to each side and in vertical units above and below the lip line.
_SIDE, _ABOVE, _BELOW = 1.3, 0.9, 1.5
_POSES = 256
_COPIES = 2
_RIDGE = 3.0
# What a network or an encoder does to a picture, in pixels of the window and in levels; copies are spoiled like this.
_BLUR, _SHIFT, _GAIN, _OFFSET = 1.5, 0.25, 0.04, 4.0
_PRESS = PARAMETERS.index("press")


class OpeningProbe:
    """Measures the mouth opening of one face in one take; fitting takes about half a second of a CPU core."""

    def __init__(self, still: Still, take: Take | None = None) -> None:
        """take: how the pictures that will come were filmed; by default they are the still's, unmoved."""
        self._still, self._take = still, Take() if take is None else take
        rng = np.random.default_rng(0)
        poses = [_speech_pose(rng, closing=index % 6 == 0) for index in range(_POSES)]
        times = rng.uniform(0, LONGEST, _POSES)
        rendered = [render(still, pose) for pose in poses]
        pictures = (self._take.apply(one.image, time) for one, time in zip(rendered, times, strict=True))
        clean = self._windows(pictures, times)
        seen = np.concatenate([clean, *(_spoiled(clean, rng) for _ in range(_COPIES))]).reshape(-1, clean[0].size)
        openings = np.tile([one.opening for one in rendered], 1 + _COPIES)
        self._mean, self._level = seen.mean(axis=0), float(openings.mean())
        seen = (seen - self._mean) / 255
        # Fewer pictures than colours in a window: the dual form is the smaller system.
        gram = seen @ seen.T + _RIDGE * np.eye(len(seen), dtype=np.float32)
        self._weights = seen.T @ np.linalg.solve(gram, (openings - self._level).astype(np.float32))

    def measure(self, pictures: Iterable[np.ndarray], times: np.ndarray) -> np.ndarray:
        """float32 ``[N]``, pixels of the 256 crop, a little below 0 for some shut mouths.

        pictures: N of uint8 RGB ``[256, 256, 3]``, the crops. times: seconds at which they were taken, float ``[N]``.
        """
        windows = self._windows(pictures, times).reshape(len(times), -1)
        return (((windows - self._mean) / 255) @ self._weights + self._level).astype(np.float32)

    def _windows(self, pictures: Iterable[np.ndarray], times: np.ndarray) -> np.ndarray:
        """The mouths, held still, float32 ``[N, 32, 48, 3]``."""
        still = self._still
        step = np.array([2 * _SIDE * still.half / _WIDTH, (_ABOVE + _BELOW) * still.tall / _HEIGHT])
        start = np.array([still.centre - _SIDE * still.half, still.rest.row - _ABOVE * still.tall]) + step / 2
        window = np.array([[step[0], 0, start[0]], [0, step[1], start[1]], [0, 0, 1]])
        found = []
        for picture, time in zip(pictures, times, strict=True):
            # A window pixel averages what it covers.
            smooth = cv2.GaussianBlur(picture, (0, 0), 0.4 * float(step.max()))
            found.append(
                cv2.warpAffine(
                    smooth,
                    _filmed(self._take, float(time)) @ window,
                    (_WIDTH, _HEIGHT),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REPLICATE,
                )
            )
        return np.array(found, np.float32).reshape(-1, _HEIGHT, _WIDTH, 3)


def measure_opening(
    pictures: np.ndarray, still: Still, take: Take | None = None, times: np.ndarray | None = None
) -> np.ndarray:
    """The mouth openings in crops of one face, float32 ``[N]`` in pixels of the crop; `OpeningProbe`, in one call.

    pictures: uint8 RGB ``[N, 256, 256, 3]``. take: how they were filmed. times: when, float ``[N]`` seconds; needed
        where the take moves.

    Raises InputError for pictures of another shape or type, or times that are missing or of another number.
    """
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (SIZE, SIZE, 3):
        raise InputError(f"pictures are {pictures.dtype} {list(pictures.shape)}; give uint8 [n, {SIZE}, {SIZE}, 3]")
    if times is None:
        if take is not None and take.motion.shape[1]:
            raise InputError("the take moves the head; pass times=..., in seconds, one for each picture")
        times = np.zeros(len(pictures))
    if len(times) != len(pictures):
        raise InputError(f"{len(times)} times for {len(pictures)} pictures; pass one for each")
    return OpeningProbe(still, take).measure(pictures, np.asarray(times))


def _filmed(take: Take, time: float) -> np.ndarray:
    """Pixels of the still to pixels of the frame, float64 ``[2, 3]``."""
    matrix = take.matrix(time)
    if take.mirror:
        matrix[0] = -matrix[0]
        matrix[0, 2] += SIZE - 1
    return matrix


def _speech_pose(rng: np.random.Generator, closing: bool) -> np.ndarray:
    """A pose of speech. closing: one on the way to a closure, which lies between no two visemes."""
    pose = random_pose(rng)
    if closing:
        pose[_PRESS] = rng.uniform()
        return under_press(pose)
    return pose


def _spoiled(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy, each window blurred, moved and lit a little."""
    spoiled = np.empty_like(windows)
    for index, window in enumerate(windows):
        blurred = cv2.GaussianBlur(window, (0, 0), rng.uniform(0.01, _BLUR))
        right, down = rng.normal(0, _SHIFT, 2)
        moved = cv2.warpAffine(
            blurred, np.array([[1, 0, right], [0, 1, down]]), (_WIDTH, _HEIGHT), borderMode=cv2.BORDER_REPLICATE
        )
        spoiled[index] = moved * np.exp(rng.normal(0, _GAIN)) + rng.normal(0, _OFFSET, 3)
    return spoiled
