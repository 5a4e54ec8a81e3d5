"""A clip as the face stages read it: in order, in slices of bounded size, checked as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import numpy as np

from ..errors import InputError

# Frames are read in slices of about this size: long enough to decode well, short enough for 8K.
_CHUNK_BYTES = 64 << 20
_DEFAULT_FPS = Fraction(25)


class Frames(Protocol):
    """A clip: its length, and slices uint8 RGB ``[n, H, W, 3]``. A FrameSource is one; so is an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> np.ndarray: ...


class ClipReader:
    """Reads a clip once, forward. Raises InputError for what is no clip.

    total: frames in the clip. size: width, height in pixels. fps: the clip's own, or 25.
    """

    def __init__(self, frames: Frames) -> None:
        self.total = len(frames)
        if not self.total:
            raise InputError("the clip has no frames; pass at least one")
        self._frames = frames
        self._first = _checked(frames[0:1], None)
        self.size = self._first.shape[2], self._first.shape[1]
        self.fps = Fraction(getattr(frames, "fps", None) or _DEFAULT_FPS)

    def each(self, count: int) -> Iterator[np.ndarray]:
        """The first ``count`` frames one by one, uint8 RGB ``[H, W, 3]``.

        Raises InputError where the clip changes its size or is shorter than it says.
        """
        yield self._first[0]
        chunk = max(1, _CHUNK_BYTES // self._first.nbytes)
        for start in range(1, count, chunk):
            stop = min(start + chunk, count)
            part = _checked(self._frames[start:stop], self._first.shape[1:])
            if len(part) != stop - start:
                raise InputError(
                    f"frames {start}-{stop - 1}: the clip gave {len(part)} of {stop - start}; its length is wrong"
                )
            yield from part


def _checked(part: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    if part.dtype != np.uint8 or part.ndim != 4 or part.shape[3] != 3 or 0 in part.shape:
        raise InputError(f"frames must be uint8 [n, H, W, 3] RGB, got {part.dtype} {list(part.shape)}")
    if shape is not None and part.shape[1:] != shape:
        raise InputError(f"frames change size from {list(shape)} to {list(part.shape[1:])}; a clip has one size")
    return part
