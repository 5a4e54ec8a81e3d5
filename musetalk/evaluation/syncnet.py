"""What SyncNet says about lips and sound, as LatentSync's evaluation asks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from ..audio.sync_mel import sync_mel_window
from ..audio.waveform import SAMPLE_RATE, Waveform
from ..errors import InputError
from ..face.boxes import face_place
from ..face.track import FaceTrack
from ..halving import run_in_halves
from ..latents import crop_face
from ..models.syncnet import FRAMES, SyncNet, stack_lower_halves
from ..profile import Profile
from ..video.frames import FrameSource
from .correlation import REACH
from .progress import Step, no_step

# The network's own rate, and the samples of one of its frames.
_RATE = 25
_FRAME_SAMPLES = SAMPLE_RATE // _RATE
# Windows overlap by three quarters.
_STRIDE, _BATCH = 4, 8
# A whole number of mel columns: 16. Sound cut at such a frame has the same columns as the whole.
_ALIGNED_FRAMES = 5


@dataclass(frozen=True)
class SyncScore:
    """SyncNet's opinion of a clip.

    confidence: the highest minus the median of the mean similarities over all offsets; near 0 for lips that say
        nothing of the sound. similarity: that highest mean cosine, 0..1. offset_frames, offset_seconds: where it lies,
        in frames of the clip; positive when the sound is late. windows: of 16 frames at 25 fps that were judged.
    offsets, curve: float64 ``[31]``, offsets in steps of 1/25 s and the mean similarity at each, NaN where the sound
        reaches fewer than half as many windows as at its best: the mean of a few would win by chance.
    """

    confidence: float
    similarity: float
    offset_frames: float
    offset_seconds: float
    windows: int
    offsets: np.ndarray
    curve: np.ndarray


def score_sync(
    network: SyncNet, frames: FrameSource, track: FaceTrack, waveform: Waveform, progress: Step = no_step
) -> SyncScore:
    """Slide windows of 16 frames over the clip and compare each with the sound at 31 offsets.

    A clip of another rate is read at 25 fps by taking the frame that is shown. Faces are cut as the engine redraws
    them.
    Raises InputError where no 16 frames in a row show a face, or the sound is shorter than one window.
    """
    count = int(len(frames) * _RATE / frames.fps)
    shown = [min(int(step * frames.fps / _RATE), len(frames) - 1) for step in range(count)]
    good = track.valid[shown]
    starts = [s for s in range(0, count - FRAMES + 1, _STRIDE) if good[s : s + FRAMES].all()]
    if not starts:
        raise InputError(f"no {FRAMES} frames in a row (at {_RATE} fps) show a usable face")
    faces, voice = _Faces(network, frames, track, shown), _Voice(network, waveform)
    offsets = np.arange(-REACH, REACH + 1)
    total, judged = np.zeros(len(offsets)), np.zeros(len(offsets), np.int64)
    done = 0
    for batch in _batches(starts):
        said = voice.embed(batch[0] - REACH, batch[-1] + REACH + 1)
        for start, seen in zip(batch, faces.embed(batch), strict=True):
            for place, offset in enumerate(offsets.tolist()):
                heard = said.get(start + offset)
                if heard is not None:
                    total[place] += float(seen @ heard)
                    judged[place] += 1
        done += len(batch)
        progress(done, len(starts))
    if not judged.any():
        raise InputError(f"the sound is shorter than one window of {FRAMES} frames at {_RATE} fps")
    curve = np.divide(total, judged, out=np.full(len(offsets), np.nan), where=2 * judged >= judged.max())
    best = int(np.nanargmax(curve))
    seconds = Fraction(int(offsets[best]), _RATE)
    return SyncScore(
        confidence=float(curve[best] - np.nanmedian(curve)),
        similarity=float(curve[best]),
        offset_frames=float(seconds * frames.fps),
        offset_seconds=float(seconds),
        windows=len(starts),
        offsets=offsets,
        curve=curve,
    )


def _batches(starts: list[int]) -> Iterator[list[int]]:
    """Starts in order, some at a time, never across a gap: what lies in one is not worth embedding."""
    batch: list[int] = []
    for start in starts:
        if batch and (len(batch) == _BATCH or start - batch[-1] > _STRIDE):
            yield batch
            batch = []
        batch.append(start)
    yield batch


class _Faces:
    """Embeds windows of frames; keeps the crops that the next window shares with the last."""

    def __init__(self, network: SyncNet, frames: FrameSource, track: FaceTrack, shown: list[int]) -> None:
        self._network = network
        self._device = next(network.parameters()).device
        self._frames, self._track, self._shown = frames, track, shown
        self._crops: dict[int, np.ndarray] = {}

    @torch.inference_mode()
    def embed(self, starts: list[int]) -> np.ndarray:
        """float32 ``[n, D]``, one row per window start, at 25 fps."""
        windows = []
        for start in starts:
            self._crops = {step: crop for step, crop in self._crops.items() if step >= start}
            windows.append(np.stack([self._crop(step) for step in range(start, start + FRAMES)]))

        def run(part: torch.Tensor) -> torch.Tensor:
            pictures = part.to(self._device).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
            return self._network.embed_frames(stack_lower_halves(pictures)).float().cpu()

        return run_in_halves(run, torch.from_numpy(np.stack(windows))).numpy()

    def _crop(self, step: int) -> np.ndarray:
        if step not in self._crops:
            index = self._shown[step]
            place = face_place(self._track, index, Profile().extra_margin, self._frames.size)
            self._crops[step] = crop_face(self._frames[index], place.box, place.turn)
        return self._crops[step]


class _Voice:
    """Embeds the sound of windows that start at any frame; keeps what the next batch asks for again."""

    def __init__(self, network: SyncNet, waveform: Waveform) -> None:
        self._network = network
        self._device = next(network.parameters()).device
        self._waveform = waveform
        self._known: dict[int, np.ndarray] = {}

    @torch.inference_mode()
    def embed(self, first: int, stop: int) -> dict[int, np.ndarray]:
        """float32 ``[D]`` for every frame ``first..stop`` at 25 fps whose window lies within the sound."""
        last = (len(self._waveform) // _FRAME_SAMPLES) - FRAMES
        self._known = {start: vector for start, vector in self._known.items() if start >= first}
        wanted = [start for start in range(max(first, 0), min(stop, last + 1)) if start not in self._known]
        if wanted:
            # One frame more on both sides: the spectrum of a column looks beyond it.
            cut = max(0, wanted[0] - 1) // _ALIGNED_FRAMES * _ALIGNED_FRAMES
            samples = self._waveform.read(cut * _FRAME_SAMPLES, (wanted[-1] + FRAMES + 2) * _FRAME_SAMPLES)
            mels = torch.stack([sync_mel_window(samples, start - cut) for start in wanted])[:, None]

            def run(part: torch.Tensor) -> torch.Tensor:
                return self._network.embed_mel(part.to(self._device)).float().cpu()

            self._known.update(zip(wanted, run_in_halves(run, mels).numpy(), strict=True))
        return self._known
