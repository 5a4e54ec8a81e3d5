"""FrameSource: a clip as a lazy sequence of RGB frames."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from numbers import Rational
from operator import index as as_index
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import InputError
from .color import ColorInfo
from .rates import as_rate

MAX_SIDE = 16384
DEFAULT_CACHE_BYTES = 128 << 20
_HASH_CHUNK = 1 << 20


class FrameSource(ABC):
    """A clip at a constant frame rate, read on demand; memory stays bounded whatever its length.

    `len(source)` is the number of frames. `source[i]` is uint8 RGB `[H, W, 3]`, `source[a:b:s]` and
    `source.read(indices)` are uint8 RGB `[n, H, W, 3]`; only what is asked for is held. Reading forward
    decodes each frame once; reading backward decodes in pieces. Any one thread may read at a time.

    fps: exact. width, height: of the upright picture. color: how the original's numbers became RGB.
    path: the file or folder, None for arrays.
    """

    fps: Fraction
    width: int
    height: int
    color: ColorInfo
    path: Path | None

    @staticmethod
    def open(
        path: str | Path,
        fps: Rational | float | None = None,
        *,
        parity: bool = False,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> FrameSource:
        """Open a video file, an image file, or a folder of images in natural order.

        fps: show the clip at this constant rate. A video is retimed by its presentation times, keeping its
        duration; without `fps` it keeps its own exact rate, or, where it has none, gets the standard rate
        nearest to its average. Images are shown one per frame, at 25 without `fps`.
        parity: convert colours as upstream's frame extraction does, to the bit, not as exactly as can be.
        cache_bytes: room for decoded frames kept for backward reading.

        Videos are rotated upright, images by their EXIF orientation. Transparency is flattened over black.
        Raises InputError for what cannot be read to the end: damaged, cut short, no pictures, a side over
        16384 pixels.
        """
        from .images import IMAGE_SUFFIXES, ImageFrames
        from .video import VideoFrames

        path, rate = Path(path), None if fps is None else as_rate(fps)
        if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageFrames(path, rate)
        return VideoFrames(path, rate, parity=parity, cache_bytes=cache_bytes)

    @staticmethod
    def from_array(frames: Any, fps: Rational | float = 25) -> FrameSource:
        """Wrap uint8 RGB `[M, H, W, 3]`, M >= 1, without copying. Raises InputError for anything else."""
        return ArrayFrames(frames, as_rate(fps))

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def content_hash(self) -> str:
        """SHA-256 (hex) of a file's bytes, a folder's names and bytes, or an array's shape and bytes."""

    @abstractmethod
    def _frame(self, index: int) -> np.ndarray:
        """Frame `index`, 0 <= index < len, as uint8 RGB `[H, W, 3]`."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.width, self.height

    @property
    def is_still(self) -> bool:
        """Whether there is one frame only."""
        return len(self) == 1

    def __getitem__(self, key: int | slice) -> np.ndarray:
        if isinstance(key, slice):
            return self.read(range(*key.indices(len(self))))
        position = as_index(key)
        if not -len(self) <= position < len(self):
            raise IndexError(f"frame {position} of {len(self)}")
        return self.read([position % len(self)])[0]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """The frames at `indices`, in that order, as uint8 RGB `[n, H, W, 3]`.

        Raises IndexError outside `[0, len)`, InputError for a frame that cannot be decoded.
        """
        wanted = [as_index(index) for index in indices]
        outside = [index for index in wanted if not 0 <= index < len(self)]
        if outside:
            raise IndexError(f"frame {outside[0]} of {len(self)}")
        frames = np.empty((len(wanted), self.height, self.width, 3), np.uint8)
        for place, index in enumerate(wanted):
            repeats = place and wanted[place - 1] == index
            frames[place] = frames[place - 1] if repeats else self._frame(index)
        return frames

    def close(self) -> None:  # noqa: B027 (most sources hold nothing open)
        """Let go of the file. Reading after this is an error."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArrayFrames(FrameSource):
    """Frames that are in memory already."""

    path = None

    def __init__(self, frames: Any, fps: Fraction) -> None:
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
            raise InputError(
                f"frames are {frames.dtype} {list(frames.shape)}; give uint8 RGB [M, H, W, 3] with at least one frame"
            )
        self._frames = frames
        self._hash: str | None = None
        self.fps = fps
        self.height, self.width = check_size(frames.shape[1], frames.shape[2], "the array")
        self.color = ColorInfo.rgb()

    def __len__(self) -> int:
        return len(self._frames)

    def _frame(self, index: int) -> np.ndarray:
        return self._frames[index]

    def content_hash(self) -> str:
        if self._hash is None:
            digest = hashlib.sha256(repr(self._frames.shape).encode())
            for frame in self._frames:
                digest.update(np.ascontiguousarray(frame).data)
            self._hash = digest.hexdigest()
        return self._hash


def check_size(width: int, height: int, what: object) -> tuple[int, int]:
    """Return the two sides, or raise InputError where one is past what any stage can hold."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"{what} is {width}x{height} pixels; a side may have 1 to {MAX_SIDE}, scale it down first")
    return width, height


def hash_file(path: Path, digest: Any) -> None:
    """Feed a file's bytes to a hashlib object, a piece at a time."""
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            digest.update(chunk)
