"""What a live session asks the networks for, and what answers: frames from windows, encoder states from sound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import torch

from ..errors import MuseTalkError
from ..inpainting import unet_latents, unet_tokens
from ..latents import decode_at_once
from ..models.unet import Seen
from .cache import ByteCache, CacheFullError
from .cores import stream_count
from .streaming import encode_states
from .thinning import ThinnedSteps

if TYPE_CHECKING:
    from ..models import Models
    from .live_avatar import LiveAvatar

BATCH_SIZES = (16, 8, 4, 2, 1)
_SEEN_BYTES = 256 << 20


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

    thinned: the steps that the encoder sees, and those whose states are wanted; None for all.
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

    states: ``[1500, layers, C]``, ``[n, layers, C]`` of n wanted steps, on the CPU, in the models' dtype.
    """

    job: EncodeJob
    states: torch.Tensor | None = None
    error: MuseTalkError | None = None

    @property
    def dropped(self) -> bool:
        return self.states is None and self.error is None


Job: TypeAlias = "FrameJob | EncodeJob"


class Generator(Protocol):
    """The networks behind a worker. Only the worker's threads call; whatever is raised fails that batch alone.

    streams: batches that are computed at the same time. max_batch: frames in one of them, at most 16.
    """

    streams: int
    max_batch: int

    def generate(self, jobs: Sequence[FrameJob]) -> list[np.ndarray]:
        """Complete frames, uint8 RGB ``[H, W, 3]`` each, in the order of the jobs.

        Raises torch.OutOfMemoryError where there are too many for the device.
        """
        ...

    def encode(self, jobs: Sequence[EncodeJob]) -> list[torch.Tensor]:
        """Encoder states, ``[1500 or n, layers, C]`` on the CPU in any dtype, in the order of the jobs.

        Raises torch.OutOfMemoryError as above.
        """
        ...


class ModelGenerator:
    """MuseTalk's networks as a :class:`Generator`: batches on a GPU, on a CPU one frame on each core.

    repaired: frames whose latents were not finite, and that show the closed mouth instead.
    """

    def __init__(
        self,
        models: Models | Callable[[], Models],
        *,
        device: torch.device | None = None,
        seen_bytes: int = _SEEN_BYTES,
    ) -> None:
        """
        models: the networks; or a function that brings them to their device, asked before every batch, where a host
        may have moved them away in between. device: where such a function will bring them, None for a GPU.
        seen_bytes: kept on the device of what the UNet made of the footage, least recently used out first.
        """
        device = device if callable(models) else models.device
        self.streams = stream_count(device)
        self.max_batch = 1 if device is not None and device.type == "cpu" else BATCH_SIZES[0]
        self.repaired = 0
        self._models = models
        self._kept: ByteCache[tuple[int, int], Seen] = ByteCache(seen_bytes, "cache of looked at footage")
        self._counting = threading.Lock()

    def generate(self, jobs: Sequence[FrameJob]) -> list[np.ndarray]:
        """See :meth:`Generator.generate`. Frames without a face are those of the footage."""
        models = self._ready()
        frames = {job: job.avatar.footage(job.source).copy() for job in jobs if not job.avatar.has_face(job.source)}
        rest = [job for job in jobs if job not in frames]
        while rest:
            # Few sizes only, so that what a GPU prepares per size is mostly prepared once.
            size = next(size for size in BATCH_SIZES if size <= min(len(rest), self.max_batch))
            part, rest = rest[:size], rest[size:]
            frames.update(zip(part, self._draw(models, part), strict=True))
        return [frames[job] for job in jobs]

    def encode(self, jobs: Sequence[EncodeJob]) -> list[torch.Tensor]:
        """See :meth:`Generator.encode`."""
        models = self._ready()
        # On a CPU one by one: the last bit is that of encoding alone, and a batch gains nothing.
        whole = [job for job in jobs if job.thinned is None and models.device.type != "cpu"]
        parts = [whole] if whole else []
        parts += [[job] for job in jobs if job not in whole]
        states: dict[EncodeJob, torch.Tensor] = {}
        for part in parts:
            encoded = encode_states(models, torch.stack([job.mel for job in part]), part[0].thinned)
            # Each of its own memory: a session keeps its row, and would keep the batch.
            states.update(zip(part, (row.clone() for row in encoded.cpu()), strict=True))
        return [states[job] for job in jobs]

    def _ready(self) -> Models:
        return self._models() if callable(self._models) else self._models

    @torch.inference_mode()
    def _draw(self, models: Models, jobs: Sequence[FrameJob]) -> list[np.ndarray]:
        windows = torch.stack([job.window for job in jobs])
        predicted = models.unet.listen(self._seen(models, jobs), unet_tokens(models, windows))
        finite = predicted.isfinite().flatten(1).all(dim=1).tolist()
        faces = decode_at_once(models, predicted).numpy()
        with self._counting:
            self.repaired += finite.count(False)
        return [
            job.avatar.with_face(job.source, face) if usable else job.avatar.idle_frame(job.source).copy()
            for job, face, usable in zip(jobs, faces, finite, strict=True)
        ]

    def _seen(self, models: Models, jobs: Sequence[FrameJob]) -> Seen:
        """What the UNet makes of the jobs' footage, in one batch; kept, as the footage comes again and again."""
        keys = [(job.avatar.key, job.avatar.avatar.rows[job.source]) for job in jobs]
        known = {key: seen for key in keys if (seen := self._kept.get(key)) is not None}
        new = {key: job for key, job in zip(keys, jobs, strict=True) if key not in known}
        if new:
            latents = torch.stack([job.avatar.avatar.latents[row] for (_, row), job in new.items()])
            together = models.unet.look(unet_latents(models, latents))
            for place, key in enumerate(new):
                known[key] = _one_of(together, place)
                self._keep(key, known[key])
            if len(new) == len(jobs):
                return together
        parts = [known[key] for key in keys]
        return Seen(
            parts[0].time,
            torch.cat([part.x for part in parts]),
            tuple(torch.cat(skips) for skips in zip(*(part.skips for part in parts), strict=True)),
        )

    def _keep(self, key: tuple[int, int], seen: Seen) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in (seen.x, *seen.skips))
        with suppress(CacheFullError):
            self._kept.put(key, seen, size)


def _one_of(seen: Seen, place: int) -> Seen:
    """One picture's, of its own memory."""
    return Seen(
        seen.time, seen.x[place : place + 1].clone(), tuple(skip[place : place + 1].clone() for skip in seen.skips)
    )
