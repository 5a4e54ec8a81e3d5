"""A prepared avatar held ready to be shown: footage in memory, and every frame with its mouth closed."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import count
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..blend import paste_face
from ..errors import Cancelled
from ..face.masks import PasteMask
from .generator import FrameJob, FrameResult

if TYPE_CHECKING:
    from ..avatar import Avatar
    from .worker import Worker

_READ_CHUNK = 16
_WARM_CHUNK = 16
# Another batch size or precision moves a grey level here and there; other networks move many.
_SAME_MOUTH = 2.0
_KEYS = count()


class LiveAvatar:
    """An avatar whose frames are at hand without decoding, for any number of sessions at once.

    closed: per source frame the part inside the mask's region as the networks draw it from silence, uint8 RGB
    ``[h, w, 3]``; None where it was not made yet, or where there is no face. With it a silent avatar costs no
    computing, and speech begins and ends on the same face.
    """

    def __init__(self, avatar: Avatar, *, on_release: Callable[[], None] | None = None) -> None:
        """Reads the whole footage into memory. on_release: called by :meth:`release`, once per user."""
        self.avatar = avatar
        self.key = next(_KEYS)
        self._on_release = on_release
        self._footage = np.empty((len(avatar.frames), avatar.frames.height, avatar.frames.width, 3), np.uint8)
        for start in range(0, len(self._footage), _READ_CHUNK):
            stop = min(start + _READ_CHUNK, len(self._footage))
            self._footage[start:stop] = avatar.frames.read(range(start, stop))
        self._footage.flags.writeable = False
        self.closed: list[np.ndarray | None] = [None] * len(self._footage)

    def __len__(self) -> int:
        """How many source frames there are."""
        return len(self._footage)

    @property
    def fps(self) -> Fraction:
        """The rate at which the footage was filmed."""
        return self.avatar.frames.fps

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.avatar.frames.size

    def size(self) -> int:
        """Bytes of memory held, with all frames closed."""
        latents = self.avatar.latents
        masks = sum(len(mask.packed) for mask in self.avatar.masks)
        return self._footage.nbytes + latents.numel() * latents.element_size() + masks + self._closed_bytes()

    def has_face(self, source: int) -> bool:
        """Whether a frame shows a face to be redrawn."""
        return bool(self.avatar.track.valid[source])

    def footage(self, source: int) -> np.ndarray:
        """A frame as filmed, uint8 RGB ``[H, W, 3]``, read only."""
        return self._footage[source]

    def with_face(self, source: int, face: np.ndarray) -> np.ndarray:
        """A frame with a generated face, uint8 RGB ``[S, S, 3]``, in its place; a new array ``[H, W, 3]``."""
        frame = self._footage[source].copy()
        mask = self.avatar.mask_of(source)
        if mask is not None:
            paste_face(frame, face, mask)
        return frame

    def idle_frame(self, source: int) -> np.ndarray:
        """A frame with the mouth closed, uint8 RGB ``[H, W, 3]``: a new array, or the read-only frame as filmed where
        its closed mouth was not made yet or there is no face."""
        patch, mask = self.closed[source], self.avatar.mask_of(source)
        if patch is None or mask is None:
            return self._footage[source]
        frame = self._footage[source].copy()
        _part(frame, mask)[...] = patch
        return frame

    @property
    def is_warm(self) -> bool:
        """Whether every frame with a face has its closed mouth."""
        return not self.missing()

    def missing(self) -> list[int]:
        """The frames with a face whose closed mouth was not made yet."""
        return [source for source, patch in enumerate(self.closed) if patch is None and self.has_face(source)]

    def close_mouth(self, source: int, frame: np.ndarray) -> None:
        """Keep a frame that was generated from silence, uint8 RGB ``[H, W, 3]``, as the closed one."""
        mask = self.avatar.mask_of(source)
        if mask is not None:
            self.closed[source] = _part(frame, mask).copy()

    def takes(self, source: int, patch: np.ndarray) -> bool:
        """Whether a patch is what ``closed`` holds of a frame, by its shape and dtype."""
        mask = self.avatar.mask_of(source) if 0 <= source < len(self) else None
        return mask is not None and patch.dtype == np.uint8 and patch.shape == _part(self._footage[source], mask).shape

    def warm(self, worker: Worker, silence: torch.Tensor, progress: Callable[[int, int], None] | None = None) -> None:
        """Make the closed mouths that are missing, when the worker has nothing urgent to do.

        silence: the audio window of digital silence, float32 ``[50, C]``. progress(done, total) counts frames; an
        exception it raises stops the work. Blocks until they are made: not for an event loop. Raises what the networks
        raised, or Cancelled when the worker was closed.
        """
        missing = self.missing()
        session = f"warm-{self.key}"
        if not missing:
            return
        worker.register(session, background=True)
        try:
            for start in range(0, len(missing), _WARM_CHUNK):
                for source, frame in self._drawn(worker, session, missing[start : start + _WARM_CHUNK], silence):
                    self.close_mouth(source, frame)
                if progress is not None:
                    progress(min(start + _WARM_CHUNK, len(missing)), len(missing))
        finally:
            worker.unregister(session)

    def fits(self, patches: dict[int, np.ndarray], worker: Worker, silence: torch.Tensor) -> bool:
        """Whether closed mouths that were kept are those of these networks, by one frame drawn anew.

        patches: by source frame, as ``closed`` has them. Blocks as :meth:`warm`.
        """
        made = [(source, patch) for source, patch in patches.items() if patch.size]
        if not made:
            return True
        source, patch = made[0]
        mask = self.avatar.mask_of(source)
        assert mask is not None
        session = f"warm-{self.key}"
        worker.register(session, background=True)
        try:
            ((_, frame),) = self._drawn(worker, session, [source], silence)
        finally:
            worker.unregister(session)
        difference = np.abs(_part(frame, mask).astype(np.int16) - patch).mean()
        return bool(difference <= _SAME_MOUTH)

    def _drawn(
        self, worker: Worker, session: str, sources: Sequence[int], window: torch.Tensor
    ) -> Iterator[tuple[int, np.ndarray]]:
        answers: queue.SimpleQueue[FrameResult] = queue.SimpleQueue()
        worker.submit(
            [FrameJob(self, source, window, inf, session, 0, lambda: False, answers.put) for source in sources]
        )
        for result in [answers.get() for _ in sources]:
            if result.error is not None:
                raise result.error
            if result.frame is None:
                raise Cancelled("the worker was closed")
            yield result.job.source, result.frame

    def release(self) -> None:
        """The user who opened it needs it no longer."""
        if self._on_release is not None:
            self._on_release()

    def _closed_bytes(self) -> int:
        regions = [mask.region for mask in self.avatar.masks]
        return sum(3 * (x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in regions)


def _part(frame: np.ndarray, mask: PasteMask) -> np.ndarray:
    x0, y0, x1, y1 = mask.region
    return frame[y0:y1, x0:x1]
