"""The streaming middle of the pipeline: frames in, UNet, VAE, blend, frames out, never more than a few at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from .audio.windows import AudioWindows
from .blend import paste_face
from .compose import chunk_length
from .face.masks import PasteMask
from .face.track import FaceTrack
from .inpainting import predict_latents
from .latents import decode_batch
from .playback import source_indices
from .preparation import FaceMaterial
from .threads import Prefetch, Sink
from .video.frames import FrameSource

if TYPE_CHECKING:
    from .models import Models

_QUEUE_DEPTH = 2


class MaterialSource(Protocol):
    """Anything with latents and masks of source frames: an Avatar, or footage prepared as it is shown."""

    def material(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> list[FaceMaterial]: ...


@dataclass(frozen=True)
class Footage:
    """What is redrawn: the frames, the face in each, and where their latents and masks come from."""

    frames: FrameSource
    track: FaceTrack
    material: MaterialSource


@dataclass(frozen=True)
class _Chunk:
    """A run of output frames: first number, their source frames and their pictures."""

    start: int
    sources: list[int]
    frames: np.ndarray


@dataclass(frozen=True)
class _Paste:
    """One generated face, and the place in its chunk it belongs to."""

    position: int
    face: np.ndarray
    mask: PasteMask


def render(
    models: Models,
    footage: Footage,
    windows: AudioWindows,
    length: int,
    write: Callable[[np.ndarray], None],
    *,
    loop: str = "ping-pong",
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Send ``length`` output frames to ``write``, in order, as uint8 RGB ``[n, H, W, 3]``.

    Reading runs ahead in one thread, blending and ``write`` follow in another; both queues are bounded.
    progress(done, total) counts frames through the networks; an exception it raises stops the work within one batch.
    Returns the seconds spent per stage (stages overlap).
    """
    clock = _Clock()
    size = chunk_length(footage.frames, batch_size)

    def read() -> Iterator[_Chunk]:
        for start in range(0, length, size):
            sources = source_indices(start, min(start + size, length), len(footage.frames), loop)
            with clock("read"):
                frames = np.array(footage.frames.read(sources))
            yield _Chunk(start, sources, frames)

    def finish(job: tuple[_Chunk, list[_Paste]]) -> None:
        chunk, pastes = job
        with clock("blend"):
            for paste in pastes:
                paste_face(chunk.frames[paste.position], paste.face, paste.mask)
        with clock("write"):
            write(chunk.frames)

    with Sink(finish, _QUEUE_DEPTH) as sink, Prefetch(read(), _QUEUE_DEPTH) as chunks:
        for chunk in chunks:
            sink.put((chunk, _generate(models, footage, windows, chunk, clock)))
            if progress is not None:
                progress(chunk.start + len(chunk.sources), length)
    return clock.seconds


def _generate(models: Models, footage: Footage, windows: AudioWindows, chunk: _Chunk, clock: _Clock) -> list[_Paste]:
    positions = [i for i, source in enumerate(chunk.sources) if footage.track.valid[source]]
    if not positions:
        return []
    with clock("audio"):
        tokens = windows.gather([chunk.start + i for i in positions])
    with clock("prepare"):
        items = footage.material.material([chunk.sources[i] for i in positions], [chunk.frames[i] for i in positions])
    with clock("unet"):
        predicted = predict_latents(models, torch.stack([item.latents for item in items]), tokens)
    with clock("decode"):
        faces = decode_batch(models, predicted)
    return [_Paste(i, face, item.mask) for i, face, item in zip(positions, faces, items, strict=True)]


class _Clock:
    """Adds up seconds per stage; each stage is timed in one thread only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begin
