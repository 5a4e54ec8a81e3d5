"""What a live session asks the networks for, and what answers: frames from windows, encoder states from sound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np
import torch

from ..errors import MuseTalkError
from ..inpainting import predict_latents
from ..latents import decode_batch
from .cache import ByteCache
from .cores import Cores
from .streaming import encode_states
from .thinning import ThinnedSteps

if TYPE_CHECKING:
    from ..models import Models
    from .live_avatar import LiveAvatar

BATCH_SIZES = (16, 8, 4, 2, 1)
_GPU_BYTES = 256 << 20


@dataclass(frozen=True, eq=False)
class FrameJob:
    """One frame to be made.

    avatar, source: whose face, and which frame of its footage. window: float32 ``[50, C]``, before positional encoding.
    deadline: ``time.monotonic()`` seconds after which the frame is of no use; ``inf`` for work without haste.
    session, generation: tags of the asker; the worker shares its time between sessions, and only hands the generation
    back. cancelled: asked before the job is computed, in the worker's thread. done: called exactly once, in the
    worker's thread; it must return at once (``loop.call_soon_threadsafe``).
    """

    avatar: LiveAvatar
    source: int
    window: torch.Tensor
    deadline: float
    session: str
    generation: int
    cancelled: Callable[[], bool]
    done: Callable[[FrameResult], None]


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The answer to a :class:`FrameJob`.

    frame: uint8 RGB ``[H, W, 3]``, the receiver's own. error: why there is none. Neither: the job was dropped,
    cancelled or too late.
    """

    job: FrameJob
    frame: np.ndarray | None = None
    error: MuseTalkError | None = None

    @property
    def dropped(self) -> bool:
        return self.frame is None and self.error is None


@dataclass(frozen=True, eq=False)
class EncodeJob:
    """One 30 s segment of log-mel to be encoded: float32 ``[80, 3000]``. The rest is as in :class:`FrameJob`.

    thinned: the steps whose states are wanted, None for all.
    Sound is never too late, since later frames hang on it; the deadline only orders the jobs.
    """

    mel: torch.Tensor
    deadline: float
    session: str
    generation: int
    cancelled: Callable[[], bool]
    done: Callable[[EncodeResult], None]
    thinned: ThinnedSteps | None = None


@dataclass(frozen=True, eq=False)
class EncodeResult:
    """The answer to an :class:`EncodeJob`: an error, or neither (dropped), or the states.

    states: ``[1500, layers, C]``, ``[n, layers, C]`` of n thinned steps, on the CPU, in the models' dtype.
    """

    job: EncodeJob
    states: torch.Tensor | None = None
    error: MuseTalkError | None = None

    @property
    def dropped(self) -> bool:
        return self.states is None and self.error is None


J = TypeVar("J")
R = TypeVar("R")
Job: TypeAlias = "FrameJob | EncodeJob"


class Generator(Protocol):
    """The networks behind a worker. Only the worker's thread calls; whatever is raised fails that batch alone."""

    def generate(self, jobs: Sequence[FrameJob]) -> list[np.ndarray]:
        """Complete frames, uint8 RGB ``[H, W, 3]`` each, in the order of the jobs, at most 16 of them.

        Raises torch.OutOfMemoryError where there are too many for the device.
        """
        ...

    def encode(self, jobs: Sequence[EncodeJob]) -> list[torch.Tensor]:
        """Encoder states, ``[1500 or n, layers, C]`` on the CPU in any dtype, in the order of the jobs."""
        ...

    def close(self) -> None:
        """End what computes. Called by the worker, last of all."""
        ...


class ModelGenerator:
    """MuseTalk's networks as a :class:`Generator`.

    repaired: frames whose latents were not finite, and that show the closed mouth instead.
    """

    def __init__(self, models: Models | Callable[[], Models], *, gpu_bytes: int = _GPU_BYTES) -> None:
        """
        models: the networks; or a function that brings them to their device, asked before every batch, where a host
        may have moved them away in between. gpu_bytes: of footage latents kept on the device, least recently used out
        first.
        """
        self._models = models
        self._latents: ByteCache[int, torch.Tensor] = ByteCache(gpu_bytes, "cache of latents")
        self._cores: Cores | None = None
        self._counting = threading.Lock()
        self.repaired = 0

    def generate(self, jobs: Sequence[FrameJob]) -> list[np.ndarray]:
        """See :meth:`Generator.generate`. Frames without a face are those of the footage."""
        models = self._ready()
        frames = {job: job.avatar.footage(job.source).copy() for job in jobs if not job.avatar.has_face(job.source)}
        rest = [job for job in jobs if job not in frames]
        if models.device.type == "cpu":
            drawn = self._side_by_side(lambda job: self._draw(models, [job])[0], rest)
            frames.update(zip(rest, drawn, strict=True))
            rest = []
        while rest:
            # Few sizes only, so that what a GPU prepares per size is prepared once.
            size = next(size for size in BATCH_SIZES if size <= len(rest))
            part, rest = rest[:size], rest[size:]
            frames.update(zip(part, self._draw(models, part), strict=True))
        return [frames[job] for job in jobs]

    def encode(self, jobs: Sequence[EncodeJob]) -> list[torch.Tensor]:
        """See :meth:`Generator.encode`."""
        models = self._ready()
        if models.device.type == "cpu":
            # One by one the last bit is that of encoding alone.
            return self._side_by_side(lambda job: encode_states(models, job.mel[None], job.thinned)[0], jobs)
        whole = [job for job in jobs if job.thinned is None]
        parts = [whole] if whole else []
        parts += [[job] for job in jobs if job.thinned is not None]
        states: dict[EncodeJob, torch.Tensor] = {}
        for part in parts:
            encoded = encode_states(models, torch.stack([job.mel for job in part]), part[0].thinned)
            states.update(zip(part, encoded.cpu(), strict=True))
        return [states[job] for job in jobs]

    def close(self) -> None:
        """See :meth:`Generator.close`."""
        if self._cores is not None:
            self._cores.close()
            self._cores = None

    def _side_by_side(self, work: Callable[[J], R], jobs: Sequence[J]) -> list[R]:
        if self._cores is None:
            self._cores = Cores()
        return self._cores.map(work, jobs)

    def _ready(self) -> Models:
        return self._models() if callable(self._models) else self._models

    def _draw(self, models: Models, jobs: Sequence[FrameJob]) -> list[np.ndarray]:
        latents = torch.stack([self._latents_of(models, job) for job in jobs])
        predicted = predict_latents(models, latents, torch.stack([job.window for job in jobs]))
        finite = predicted.isfinite().flatten(1).all(dim=1).tolist()
        faces = decode_batch(models, predicted)
        with self._counting:
            self.repaired += finite.count(False)
        return [
            job.avatar.with_face(job.source, face) if usable else job.avatar.idle_frame(job.source).copy()
            for job, face, usable in zip(jobs, faces, finite, strict=True)
        ]

    def _latents_of(self, models: Models, job: FrameJob) -> torch.Tensor:
        """Of one frame, on the device where they are kept there, else where the avatar has them."""
        avatar, row = job.avatar.avatar, job.avatar.avatar.rows[job.source]
        if models.device.type == "cpu":
            return avatar.latents[row]
        kept = self._latents.get(job.avatar.key)
        if kept is None:
            kept = avatar.latents.to(models.device, models.dtype)
            size = kept.numel() * kept.element_size()
            if size > self._latents.limit:
                return avatar.latents[row].to(models.device, models.dtype)
            self._latents.put(job.avatar.key, kept, size)
        return kept[row]
