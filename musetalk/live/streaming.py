"""Audio windows of a sound that is still arriving, the same however it is cut into packets."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from ..audio.features import MAX_FPS, exact_fps
from ..audio.mel import SEGMENT_SAMPLES, SEGMENT_STEPS, log_mel
from ..audio.waveform import SAMPLE_RATE, Waveform
from ..audio.windows import STEPS_PER_SECOND, WINDOW_STEPS, AudioWindows, window_starts
from ..errors import InputError
from ..models import Models
from .running_mel import RunningMel
from .thinning import ThinnedSteps, thinned_steps

_SAMPLES_PER_STEP = SAMPLE_RATE // STEPS_PER_SECOND
# Step j depends on samples below 320 j + 520: half a spectrum and the reach of two convolutions past its start.
_STEP_REACH = 520
# Where the window of silence begins: a second into the sound, away from the zeros before its start.
_SILENT_START = STEPS_PER_SECOND


@dataclass(frozen=True)
class FeatureFrame:
    """One frame of the utterance.

    index: which frame, from 0. window: its audio window, float32 ``[50, C]``, before positional encoding.
    ready_after: how many samples of the utterance it was computed from; no later sample has any part in it.
    """

    index: int
    window: torch.Tensor
    ready_after: int


@dataclass(frozen=True, eq=False)
class _Hop:
    """Frames from ``first`` on, computed together from the first ``heard`` samples; ``final`` if those are all."""

    first: int
    starts: np.ndarray
    heard: int
    final: bool

    @property
    def end(self) -> int:
        return self.first + len(self.starts)

    @property
    def steps(self) -> np.ndarray:
        """Encoder steps of the windows, int64 ``[n, 10]``; -1 outside the sound."""
        steps = self.starts[:, None] + np.arange(WINDOW_STEPS)
        return np.where((steps >= 0) & (steps < self.heard // _SAMPLES_PER_STEP), steps, -1)


@dataclass(frozen=True, eq=False)
class EncoderInput:
    """A log-mel that waits for the audio encoder, float32 ``[80, 3000]``; it goes to ``accept`` with its states.

    thinned: the steps that the encoder is asked for, None for all.
    """

    mel: torch.Tensor
    thinned: ThinnedSteps | None
    cell: int
    hop: _Hop
    completes_hop: bool


class FeatureStream:
    """Audio windows of one utterance at a time, prefix-aligned.

    Frames come in hops: frame 0 alone, so that the first is early, then ``hop_frames`` at a time. A hop is due when the
    sound its last window depends on has arrived (132.5 ms after that frame's beginning at 25 fps) and
    ``context_ms`` more. Its frames are those of the offline windows of the sound up to exactly there: the 30 s cell of
    the offline grid is encoded anew from its start, so positions and everything before are offline's, and only what
    comes later is missing. When a hop is due depends on the samples alone, so every packetisation gives the same bits.

    After the end of the sound the frames left are computed from all of it and are bit for bit the offline ones; with
    an infinite ``context_ms`` these are all frames. For streams encoded in one batch all this holds as far as the
    encoder gives a row of a batch the bits it gives the row alone.

    A ``thinned`` stream asks the encoder for a part of the steps (see `thinned_steps`) until the end of the sound: its
    frames are near those of the others, at a tenth of their cost on a CPU. Those left at the end are the offline ones
    all the same.

    ``push`` and ``flush`` do everything at once. To batch several streams' encodings use ``feed`` and ``finish``, then
    take ``prepare`` until it is None and give the states to ``accept`` in the same order. One thread at a time.
    """

    def __init__(
        self,
        models: Models | None,
        fps: Fraction | float = Fraction(25),
        context_ms: float = 40,
        hop_frames: int = 2,
        *,
        thinned: bool = False,
    ) -> None:
        """models: for ``push`` and ``flush``; None where their encodings are another's business.

        Raises InputError for a frame rate, context or hop out of range.
        """
        if not 0 < fps <= MAX_FPS:
            raise InputError(f"fps is {fps}; it must be above 0 and at most {MAX_FPS}")
        if not context_ms >= 0:
            raise InputError(f"context_ms is {context_ms}; it must be 0 or more, infinite to wait for the whole sound")
        if hop_frames < 1:
            raise InputError(f"hop_frames is {hop_frames}; it must be at least 1")
        self.fps = exact_fps(fps)
        self._models = models
        self._hop_frames = hop_frames
        self._thinned = thinned
        self._context = math.inf if math.isinf(context_ms) else round(context_ms * SAMPLE_RATE / 1000)
        self.reset()

    def reset(self) -> None:
        """Drop everything and start a new utterance at frame 0."""
        self._heard = 0
        self._ended = False
        self._cells: dict[int, np.ndarray] = {}
        self._mels: dict[int, RunningMel] = {}
        # Of each cell: its states, and the step that the first of them is of.
        self._states: dict[int, tuple[torch.Tensor, int]] = {}
        self._whole: set[int] = set()
        self._next = 0
        self._hop: _Hop | None = self._streamed_hop()
        self._to_encode: deque[tuple[int, _Hop, bool]] = deque()
        self._awaited: deque[EncoderInput] = deque()

    def push(self, samples: np.ndarray) -> list[FeatureFrame]:
        """Add samples, float32 ``[n]`` at 16 kHz, n from 0; the frames that are due by now, in order.

        Raises InputError for samples that are not finite, and after ``flush`` until ``reset``.
        """
        self.feed(samples)
        return self._run()

    def flush(self) -> list[FeatureFrame]:
        """The end of the sound: the frames left, ``floor(n * fps / 16000)`` in all for n samples, one if that is 0."""
        self.finish()
        return self._run()

    def feed(self, samples: np.ndarray) -> None:
        """``push`` without the encoder."""
        samples = np.asarray(samples, dtype=np.float32)
        if self._ended:
            raise InputError("sound after the end of the utterance; reset() starts the next one")
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise InputError(f"samples of shape {samples.shape}; pass finite mono samples [n] at 16 kHz")
        while len(samples):
            cell, offset = divmod(self._heard, SEGMENT_SAMPLES)
            part, samples = np.split(samples, [SEGMENT_SAMPLES - offset])
            if cell not in self._cells:
                self._cells[cell] = np.zeros(SEGMENT_SAMPLES, np.float32)
            self._cells[cell][offset : offset + len(part)] = part
            self._heard += len(part)

    def finish(self) -> None:
        """``flush`` without the encoder."""
        self._ended = True

    def skip_to(self, index: int) -> None:
        """Leave out the hops that hold only frames before this one, as far as they are due; the others keep their bits.

        Frames left for the end of the sound are not left out, nor those of a hop that ``prepare`` has begun.
        """
        if self._to_encode or self._awaited:
            return
        while self._hop is not None and self._hop.heard <= self._heard and self._hop.end <= index:
            self._next = self._hop.end
            self._hop = self._streamed_hop()

    def prepare(self) -> EncoderInput | None:
        """What the audio encoder has to see next, or None when no frame is due.

        Costs 1 ms, and 12 ms for the whole of a 30 s cell or of what was heard at the end.
        """
        if not self._to_encode:
            self._take_hop()
        if not self._to_encode:
            return None
        cell, hop, completes_hop = self._to_encode.popleft()
        thinned = self._thinned_steps(cell, hop) if self._is_thinned(hop) else None
        encoder_input = EncoderInput(self._mel(cell, hop), thinned, cell, hop, completes_hop)
        self._awaited.append(encoder_input)
        return encoder_input

    def accept(self, encoder_input: EncoderInput, states: torch.Tensor) -> list[FeatureFrame]:
        """The frames that the encoder's answer completes; those of a hop across two cells come with the second.

        states: ``[1500, layers, C]``, ``[n, ...]`` of n wanted steps, any dtype and device. An input from before
        ``reset`` gives nothing.
        Raises InputError for one that is not the oldest outstanding.
        """
        if encoder_input not in self._awaited:
            return []
        if encoder_input is not self._awaited[0]:
            raise InputError("states accepted out of order; accept them in the order of prepare()")
        self._awaited.popleft()
        thinned = encoder_input.thinned
        self._states[encoder_input.cell] = (states, 0 if thinned is None else thinned.wanted.start)
        if not encoder_input.completes_hop:
            return []
        hop = encoder_input.hop
        windows = self._windows(hop)
        self._forget_before(max(0, int(hop.starts[-1])) // SEGMENT_STEPS)
        return [FeatureFrame(hop.first + i, window, hop.heard) for i, window in enumerate(windows)]

    def _run(self) -> list[FeatureFrame]:
        if self._models is None:
            raise InputError("this stream has no models to encode with; use feed, finish, prepare and accept")
        frames: list[FeatureFrame] = []
        while (encoder_input := self.prepare()) is not None:
            states = encode_states(self._models, encoder_input.mel[None], encoder_input.thinned)[0]
            frames += self.accept(encoder_input, states)
        return frames

    def _take_hop(self) -> None:
        """Line up the encodings of the next hop if it is due."""
        # A hop that was due before the end is not the end's, however late it is asked for.
        if self._hop is not None and self._hop.heard <= self._heard:
            hop: _Hop | None = self._hop
        else:
            hop = self._final_hop() if self._ended else None
        if hop is None:
            return
        self._next = hop.end
        self._hop = self._streamed_hop()
        steps = hop.steps
        cells = np.unique(steps[steps >= 0] // SEGMENT_STEPS).tolist() or [0]
        # States of a whole cell stay as they are. With no other cell one is encoded again: every hop ends in accept().
        cells = [cell for cell in cells if cell not in self._whole] or cells[-1:]
        self._to_encode.extend((cell, hop, cell == cells[-1]) for cell in cells)
        if not self._is_thinned(hop):
            self._whole.update(cell for cell in cells if (cell + 1) * SEGMENT_SAMPLES <= hop.heard)

    def _streamed_hop(self) -> _Hop | None:
        """The hop of the frames from ``_next`` on; None when they have to wait for the end of the sound."""
        if math.isinf(self._context):
            return None
        end = self._next + self._hop_frames if self._next else 1
        end_of_frames = math.ceil(end * SAMPLE_RATE / self.fps)
        starts = window_starts(end_of_frames, self.fps)[self._next : end]
        last_step = int(starts[-1]) + WINDOW_STEPS - 1
        # Nothing past its cell has a part in a step. Frames that the sound may yet end within are not due.
        end_of_cell = (last_step // SEGMENT_STEPS + 1) * SEGMENT_SAMPLES
        reach = last_step * _SAMPLES_PER_STEP + _STEP_REACH + int(self._context)
        return _Hop(self._next, starts, max(min(reach, end_of_cell), end_of_frames), final=False)

    def _final_hop(self) -> _Hop | None:
        """The frames left at the end of the sound, as far as their windows end in the same cell; None without any."""
        starts = window_starts(self._heard, self.fps)[self._next :] if self._heard else np.zeros(0, np.int64)
        if not len(starts):
            return None
        last_steps = np.clip(starts + WINDOW_STEPS - 1, 0, max(0, self._heard // _SAMPLES_PER_STEP - 1))
        cells = last_steps // SEGMENT_STEPS
        return _Hop(self._next, starts[cells == cells[0]], self._heard, final=True)

    def _is_thinned(self, hop: _Hop) -> bool:
        return self._thinned and not hop.final

    @staticmethod
    def _thinned_steps(cell: int, hop: _Hop) -> ThinnedSteps:
        first = max(0, int(hop.starts[0])) - cell * SEGMENT_STEPS
        heard = min(hop.heard - cell * SEGMENT_SAMPLES, SEGMENT_SAMPLES)
        return thinned_steps(-(-heard // _SAMPLES_PER_STEP), max(0, first))

    def _mel(self, cell: int, hop: _Hop) -> torch.Tensor:
        samples = self._cells[cell][: hop.heard - cell * SEGMENT_SAMPLES]
        return log_mel(samples) if hop.final else self._mels.setdefault(cell, RunningMel()).of(samples)

    def _windows(self, hop: _Hop) -> torch.Tensor:
        """float32 ``[n, 50, C]`` on the CPU, of the states that are there."""
        steps = hop.steps
        shape = next(iter(self._states.values()))[0].shape[1:]
        windows = torch.zeros((*steps.shape, *shape))
        for cell, (states, first) in self._states.items():
            wanted = (steps >= 0) & (steps // SEGMENT_STEPS == cell)
            rows = torch.from_numpy(steps[wanted] % SEGMENT_STEPS - first)
            windows[torch.from_numpy(wanted)] = states[rows].float().cpu()
        return windows.flatten(1, 2)

    def _forget_before(self, cell: int) -> None:
        for kept in (self._cells, self._mels, self._states):
            for old in [number for number in kept if number < cell]:
                del kept[old]


@torch.inference_mode()
def encode_states(models: Models, mels: torch.Tensor, thinned: ThinnedSteps | None = None) -> torch.Tensor:
    """Log-mels ``[B, 80, 3000]`` through the audio encoder: ``[B, 1500, layers, C]``, on its device, in its dtype.

    thinned: only the n wanted of these steps, ``[B, n, layers, C]``.
    """
    mels = mels.to(models.device, models.dtype)
    if thinned is None:
        return models.audio_encoder(mels)
    steps, weights = thinned.steps.to(models.device), thinned.weights.to(models.device)
    return models.audio_encoder(mels, steps, weights, thinned.rows)


def silence_window(models: Models) -> torch.Tensor:
    """The audio window of digital silence, float32 ``[50, C]``: a second into a silent sound."""
    with Waveform() as silence:
        silence.append(np.zeros(2 * SAMPLE_RATE, dtype=np.float32))
        return AudioWindows(silence, lambda mel: encode_states(models, mel), [_SILENT_START])[0]
