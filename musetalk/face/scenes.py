"""Where a clip cuts from one shot to another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np

# Pictures are compared as thumbnails of this size (width, height).
_THUMBNAIL = (32, 18)
# A cut is a change by at least the first, and by so many times what is usual in this shot.
_LEAST_CHANGE = 0.35
_UNUSUAL = 3.0
_MEMORY = 12  # changes that "usual" is the median of
# A picture like any of the last few is no cut, so a flash or a dropped frame is at most one.
_LOOK_BACK = 3
_LEAST_SPREAD = 8.0  # of luma in Lab; below it a picture is blank, and its noise must not be blown up
_CHROMA_SPREAD = 20.0


class CutDetector:
    """Tells, frame by frame, where a new shot begins.

    Pictures are compared free of brightness and contrast, so that a flash or a fade of light is no cut. A
    dissolve has no single frame at which it happens and is not found, nor is a jump between much the same pictures.
    A cut seen where there is none does little harm: it splits what is followed, and appearance joins it again, and
    smoothing is one-sided there.
    """

    def __init__(self) -> None:
        self._past: deque[np.ndarray] = deque(maxlen=_LOOK_BACK)
        self._changes: deque[float] = deque(maxlen=_MEMORY)

    def step(self, rgb: np.ndarray) -> bool:
        """True where the picture uint8 ``[H, W, 3]`` is the first of a shot, the very first one included."""
        view = _view(rgb)
        usual = float(np.median(self._changes)) if self._changes else 0.0
        most = max(_LEAST_CHANGE, _UNUSUAL * usual)
        cut = True
        for past in reversed(self._past):
            change = _difference(view, past)
            if change <= most:
                self._changes.append(change)
                cut = False
                break
        self._past.append(view)
        return cut


def note_cuts(frames: Iterator[np.ndarray], cuts: list[int]) -> Iterator[np.ndarray]:
    """The frames as they come; the numbers of those, from 1 on, that begin a shot are added to ``cuts`` before."""
    detector = CutDetector()
    for i, frame in enumerate(frames):
        if detector.step(frame) and i:
            cuts.append(i)
        yield frame


def _view(rgb: np.ndarray) -> np.ndarray:
    """float32 ``[18, 32, 3]``: Lab, luma free of brightness and contrast."""
    # Four samples a cell are enough, and far cheaper than averaging all of a large picture.
    step = max(1, min(rgb.shape[1] // (4 * _THUMBNAIL[0]), rgb.shape[0] // (4 * _THUMBNAIL[1])))
    small = cv2.resize(np.ascontiguousarray(rgb[::step, ::step]), _THUMBNAIL, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 0] -= lab[..., 0].mean()
    return lab / np.array((max(float(lab[..., 0].std()), _LEAST_SPREAD), _CHROMA_SPREAD, _CHROMA_SPREAD), np.float32)


def _difference(view: np.ndarray, other: np.ndarray) -> float:
    """0 for the same picture, 0.7 and more for different shots.

    A cell is compared with the most alike of the nine around its place in the other picture, so that motion by up to
    a cell a frame costs little: 0.25 is reached by people who rush through half of the picture.
    """
    height, width = view.shape[:2]
    around = np.pad(other, ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [around[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return float(np.min([np.abs(view - cells).sum(axis=2) for cells in shifted], axis=0).mean())
