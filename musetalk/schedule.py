"""When a speaker speaks: which output frames are redrawn, and how strongly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

Span = tuple[Fraction, Fraction]


class Schedule:
    """How strongly each output frame of one speaker is redrawn, 0..1.

    A span fades in and out over ``fade`` seconds inside itself, so that nothing outside it changes; not where it
    touches the first or the last frame of the output, nor where another span of the same speaker follows at once.
    """

    def __init__(
        self,
        spans: Iterable[Span] | None,
        fps: Fraction,
        *,
        heard: int,
        length: int,
        fade: float = 0.0,
        beside: Iterable[Span] = (),
    ) -> None:
        """spans: start and end in seconds of the output; None is the whole sound.

        heard: frames the speaker has sound for; the rest is never redrawn. length: frames of the output. beside: spans
        in which the same person speaks another sound.
        """
        speaking = np.zeros(length, bool)
        for start, end in [(Fraction(0), None)] if spans is None else spans:
            speaking[round(start * fps) : None if end is None else round(end * fps)] = True
        speaking[heard:] = False
        # One frame more on either side: beyond the output everybody goes on as they are.
        goes_on = np.zeros(length + 2, bool)
        goes_on[[0, -1]] = True
        for start, end in beside:
            goes_on[1:-1][round(start * fps) : round(end * fps)] = True
        self._weights = speaking.astype(np.float32)
        ramp = round(fade * fps)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], speaking, [False]]).astype(np.int8))).reshape(-1, 2)
        for first, stop in edges:
            frames = np.arange(first, stop)
            rise = np.ones(len(frames)) if goes_on[first] else (frames - first + 1) / (ramp + 1)
            fall = np.ones(len(frames)) if goes_on[stop + 1] else (stop - frames) / (ramp + 1)
            self._weights[first:stop] = np.minimum(np.minimum(rise, fall), 1)

    def weights(self, indices: Sequence[int]) -> np.ndarray:
        """float32 ``[n]`` for output frames."""
        return self._weights[np.asarray(indices, np.int64)]

    def __len__(self) -> int:
        return len(self._weights)
