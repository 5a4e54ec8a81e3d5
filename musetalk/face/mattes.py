"""Masks that other programs made: what may be redrawn, and what stands in front of the face."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from ..video.frames import FrameSource
from .masks import cut_box
from .upright import as_turn


class Mattes:
    """One grey picture per frame, or one for all, read on demand."""

    def __init__(self, pictures: FrameSource | np.ndarray, name: str, size: tuple[int, int] | None = None) -> None:
        """Use :meth:`open` or :meth:`from_array`. name: for messages. size: width and height of what is read."""
        self._pictures = pictures
        self._name = name
        self._size = size
        self._one: np.ndarray | None = None

    @classmethod
    def open(cls, path: str | Path, fps: Fraction | float | None = None) -> Mattes:
        """An image, a folder of images or a video; its luma is the matte. fps: see ``FrameSource.open``.

        Raises InputError for what cannot be read.
        """
        return cls(FrameSource.open(path, fps), str(path))

    @classmethod
    def from_array(cls, pictures: Any, name: str = "the mask") -> Mattes:
        """``[M, H, W]`` or ``[H, W]``: float in 0..1 (clipped), uint8 in 0..255, or bool; not copied.

        Raises InputError for other shapes and types, and for NaN.
        """
        array = np.asarray(pictures)
        planes = array[None] if array.ndim == 2 else array
        fits = planes.ndim == 3 and 0 not in planes.shape
        if not fits or not (planes.dtype in (np.uint8, bool) or np.issubdtype(planes.dtype, np.floating)):
            raise InputError(
                f"{name} is {array.dtype} {list(array.shape)}; "
                "give [frames, height, width] or [height, width], float in 0..1 or uint8"
            )
        if np.issubdtype(planes.dtype, np.floating) and np.isnan(planes.min()):
            raise InputError(f"{name} holds NaN; give numbers in 0..1")
        return cls(planes, name)

    def __len__(self) -> int:
        return len(self._pictures)

    def for_clip(self, total: int, size: tuple[int, int]) -> Mattes:
        """The same mattes, read at the size (width, height) of a clip of ``total`` frames.

        Raises InputError where there is neither one matte nor one per frame.
        """
        if len(self) not in (1, total):
            raise InputError(f"{self._name} has {len(self)} pictures for {total} frames; give one, or one per frame")
        return self.at_size(size)

    def at_size(self, size: tuple[int, int]) -> Mattes:
        """The same mattes, stretched to a width and height as they are read."""
        return Mattes(self._pictures, self._name, size)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """The mattes of frames, uint8 ``[n, H, W]``, read-only; at their own size unless another was asked for.

        Raises InputError for a frame that has none.
        """
        if len(self) == 1:
            if self._one is None:
                self._one = self._read(0)
            return np.broadcast_to(self._one, (len(indices), *self._one.shape))
        for index in indices:
            if not 0 <= index < len(self):
                raise InputError(f"{self._name} has {len(self)} pictures, none for frame {index}; give one per frame")
        return np.stack([self._read(int(index)) for index in indices])

    def _read(self, index: int) -> np.ndarray:
        grey = _grey(self._pictures[index])
        height, width = grey.shape
        if self._size is None or (width, height) == self._size:
            return grey
        shrinks = width > self._size[0] and height > self._size[1]
        return cv2.resize(grey, self._size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)

    def close(self) -> None:
        """Let go of the file. Reading after this is an error."""
        if isinstance(self._pictures, FrameSource):
            self._pictures.close()

    def __enter__(self) -> Mattes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _grey(picture: np.ndarray) -> np.ndarray:
    if picture.ndim == 3:
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if picture.dtype == np.uint8:
        return picture
    return np.rint(np.clip(picture.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def covered(occluder: Mattes, boxes: np.ndarray, seen: np.ndarray, turns: np.ndarray | None = None) -> np.ndarray:
    """The part of the mouth region that the occluder covers, float32 ``[M]`` in 0..1; 0 where not seen.

    occluder: at the size of the footage. boxes: int ``[M, 4]`` by the box rule, in the picture turned by ``turns``
    (see ``FaceTrack``). seen: bool ``[M]``, rows of ``boxes`` that mean something.
    The mouth region is the lower half of the box, and the middle half of its width.
    """
    part = np.zeros(len(boxes), np.float32)
    for index in np.flatnonzero(seen).tolist():
        (matte,) = occluder.read([index])  # one at a time: a large picture is the most that is held
        x0, y0, x1, y1 = (int(value) for value in boxes[index])
        quarter = (x1 - x0) // 4
        mouth = x0 + quarter, (y0 + y1) // 2, x1 - quarter, y1
        turn = None if turns is None else as_turn(turns[index])
        part[index] = cut_box(matte, mouth, turn).mean() / 255
    return part


def open_mattes(stack: ExitStack, mattes: Any, frames: FrameSource) -> Mattes | None:
    """Mattes that fit a clip, from Mattes, a path or an array; None stays None. ``stack`` closes an opened file.

    Raises InputError for what cannot be read or does not fit.
    """
    if mattes is None:
        return None
    if isinstance(mattes, (str, Path)):
        opened = Mattes.open(mattes)
        if len(opened) > 1 and len(opened) != len(frames):
            opened.close()
            opened = Mattes.open(mattes, frames.fps)
        mattes = stack.enter_context(opened)
    elif not isinstance(mattes, Mattes):
        mattes = Mattes.from_array(mattes)
    return mattes.for_clip(len(frames), frames.size)
