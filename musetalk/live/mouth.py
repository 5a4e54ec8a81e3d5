"""Into and out of speech without a pop."""

from __future__ import annotations

import cv2
import numpy as np


class MouthFade:
    """Cross-fades between the closed mouth and the speaking one over ``frames`` pictures.

    What speech adds to the closed picture (zero outside the redrawn face) is faded, never the picture itself: the
    footage goes on moving underneath. When speech ends, the last spoken picture's share dies away.
    Pictures are uint8 RGB ``[H, W, 3]``; inputs are never written to, and an output may be an input.
    """

    def __init__(self, frames: int = 4, *, after_cut: bool = False) -> None:
        """after_cut: the picture jumps here anyway, so that if the first one is spoken it need not fade in."""
        self._frames = frames
        self._step = frames if after_cut else 0
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def speak(self, spoken: np.ndarray, closed: np.ndarray) -> np.ndarray:
        """The picture of a frame that is spoken."""
        self._step = min(self._step + 1, self._frames)
        self._last = (spoken, closed)
        return spoken if self._step == self._frames else self._blend(closed)

    def rest(self, closed: np.ndarray) -> np.ndarray:
        """The picture of a frame that is silent, or that nothing spoken is shown for any more."""
        self._step = 0 if self._last is None else self._step - 1
        if self._step == 0:
            self._last = None
        return closed if self._last is None else self._blend(closed)

    def cut(self) -> None:
        """The next silent picture is closed at once: speech was interrupted."""
        self._step, self._last = 0, None

    def _blend(self, onto: np.ndarray) -> np.ndarray:
        assert self._last is not None
        spoken, closed = self._last
        added = cv2.subtract(spoken, closed, dtype=cv2.CV_16S)
        share = self._step / self._frames
        return np.asarray(cv2.addWeighted(added, share, onto, 1.0, 0.0, dtype=cv2.CV_8U))
