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
from .schedule import Schedule
from .threads import Prefetch, Sink
from .video.frames import FrameSource

if TYPE_CHECKING:
    from .models import Models

_QUEUE_DEPTH = 2


class MaterialSource(Protocol):
    """Anything with latents and masks of source frames: an Avatar, or footage prepared as it is shown."""

    def material(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> list[FaceMaterial]: ...


@dataclass(frozen=True)
class Voice:
    """One speaker: the face in each source frame, where its latents and masks come from, the sound, and when."""

    track: FaceTrack
    material: MaterialSource
    windows: AudioWindows
    schedule: Schedule


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
    frames: FrameSource,
    voices: Sequence[Voice],
    length: int,
    write: Callable[[np.ndarray], None],
    *,
    loop: str = "ping-pong",
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Send ``length`` output frames to ``write``, in order, as uint8 RGB ``[n, H, W, 3]``.

    Voices are pasted one after the other, each over what the ones before it left.
    Reading runs ahead in one thread, blending and ``write`` follow in another; both queues are bounded.
    progress(done, total) counts frames through the networks; an exception it raises stops the work within one batch.
    Returns the seconds spent per stage (stages overlap).
    """
    clock = _Clock()
    size = chunk_length(frames, batch_size)

    def read() -> Iterator[_Chunk]:
        for start in range(0, length, size):
            sources = source_indices(start, min(start + size, length), len(frames), loop)
            with clock("read"):
                pictures = np.array(frames.read(sources))
            yield _Chunk(start, sources, pictures)

    def finish(job: tuple[_Chunk, list[_Paste]]) -> None:
        chunk, pastes = job
        with clock("blend"):
            for paste in pastes:
                paste_face(chunk.frames[paste.position], paste.face, paste.mask)
        with clock("write"):
            write(chunk.frames)

    with Sink(finish, _QUEUE_DEPTH) as sink, Prefetch(read(), _QUEUE_DEPTH) as chunks:
        for chunk in chunks:
            sink.put((chunk, [paste for voice in voices for paste in _generate(models, voice, chunk, clock)]))
            if progress is not None:
                progress(chunk.start + len(chunk.sources), length)
    return clock.seconds


def _generate(models: Models, voice: Voice, chunk: _Chunk, clock: _Clock) -> list[_Paste]:
    strength = voice.schedule.weights(range(chunk.start, chunk.start + len(chunk.sources)))
    positions = [i for i, source in enumerate(chunk.sources) if voice.track.valid[source] and strength[i] > 0]
    if not positions:
        return []
    with clock("audio"):
        tokens = voice.windows.gather([chunk.start + i for i in positions])
    with clock("prepare"):
        items = voice.material.material([chunk.sources[i] for i in positions], [chunk.frames[i] for i in positions])
    with clock("unet"):
        predicted = predict_latents(models, torch.stack([item.latents for item in items]), tokens)
    with clock("decode"):
        faces = decode_batch(models, predicted)
    masks = [item.mask.faded(float(strength[i])) for i, item in zip(positions, items, strict=True)]
    return [_Paste(*paste) for paste in zip(positions, faces, masks, strict=True)]


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
