"""One window of encoder states per video frame (spec sections 2.1 and 2.2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import overload

import numpy as np
import torch

from ..errors import InputError
from .mel import SEGMENT_SAMPLES, SEGMENT_STEPS, log_mel
from .waveform import SAMPLE_RATE, Waveform

STEPS_PER_SECOND = 50
WINDOW_STEPS = 10
_STEPS_BEFORE = 4
_UPSTREAM_PADDING = 2
_SEGMENTS_KEPT = 2

HiddenStates = Callable[[torch.Tensor], torch.Tensor]


class AudioWindows:
    """The ``N`` audio windows of a clip, computed as they are asked for.

    ``windows[a:b]`` is float32 ``[n, 50, C]`` (token ``5 * step + layer``; C is the encoder's width), before positional
    encoding. The sound is encoded in 30 s segments, two of which are kept: memory does not grow with its length.
    """

    def __init__(self, waveform: Waveform, hidden_states: HiddenStates, starts: Sequence[int] | np.ndarray) -> None:
        """
        waveform: 16 kHz samples.
        hidden_states: log-mel ``[1, 80, 3000]`` to encoder states ``[1, 1500, layers, channels]``.
        starts: first encoder step of each frame's window; steps outside the sound are zeros.
        """
        self._waveform = waveform
        self._hidden_states = hidden_states
        self._starts = np.asarray(starts, dtype=np.int64)
        self._steps = len(waveform) * STEPS_PER_SECOND // SAMPLE_RATE
        self._segments: OrderedDict[int, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> torch.Tensor: ...
    def __getitem__(self, index: int | slice) -> torch.Tensor:
        if isinstance(index, slice):
            return self.gather(range(*index.indices(len(self))))
        return self.gather([index])[0]

    def gather(self, indices: Sequence[int]) -> torch.Tensor:
        """Windows of the given frames, float32 ``[n, 50, C]``."""
        steps = self._starts[np.asarray(indices, dtype=np.int64), None] + np.arange(WINDOW_STEPS)
        inside = (steps >= 0) & (steps < self._steps)
        segment_of_step = np.where(inside, steps // SEGMENT_STEPS, -1)
        states: torch.Tensor | None = None
        # A window wholly outside the sound still needs the states' shape, hence segment 0 when nothing is inside.
        for segment in np.unique(segment_of_step[inside]) if inside.any() else [0]:
            encoded = self._segment(int(segment))
            if states is None:
                states = torch.zeros((*steps.shape, *encoded.shape[1:]))
            wanted = segment_of_step == segment
            states[torch.from_numpy(wanted)] = encoded[torch.from_numpy(steps[wanted] % SEGMENT_STEPS)]
        assert states is not None
        return states.flatten(1, 2)

    def close(self) -> None:
        """Let go of the sound."""
        self._waveform.close()

    def _segment(self, index: int) -> torch.Tensor:
        if index in self._segments:
            self._segments.move_to_end(index)
            return self._segments[index]
        start = index * SEGMENT_SAMPLES
        mel = log_mel(self._waveform.read(start, start + SEGMENT_SAMPLES))
        states = self._hidden_states(mel[None])[0].float().cpu()
        self._segments[index] = states
        if len(self._segments) > _SEGMENTS_KEPT:
            self._segments.popitem(last=False)
        return states


def window_starts(samples: int, fps: Fraction) -> np.ndarray:
    """First encoder step of each frame's window, int64 ``[N]``, exact for every frame rate.

    Frame i stands over steps ``c - 4 .. c + 5`` with ``c = floor(i * 50 / fps)``; ``N = floor(samples * fps / 16000)``,
    and one for any sound shorter than a frame. For whole rates from 25 to 49 this equals upstream.
    """
    count = max(1, samples * fps.numerator // (SAMPLE_RATE * fps.denominator))
    centres = np.arange(count, dtype=np.int64) * (STEPS_PER_SECOND * fps.denominator) // fps.numerator
    return centres - _STEPS_BEFORE


def upstream_window_starts(samples: int, fps: float) -> np.ndarray:
    """Upstream's window starts with its quirks: whole frame rates only, float frame count, padding by ``ceil(50/fps)``.

    Raises InputError where upstream stops the program: no whole frame, or windows past the padded sound
    (every rate from 50 up, and sounds under 80 ms).
    """
    whole_fps = int(fps)
    if whole_fps < 1:
        raise InputError(f"fps is {fps}; parity needs at least 1 frame per second")
    steps_per_frame = STEPS_PER_SECOND / whole_fps
    seconds = samples / SAMPLE_RATE
    count = floor(seconds * whole_fps)
    steps = floor(seconds * STEPS_PER_SECOND)
    padding = ceil(steps_per_frame)
    left = padding * _UPSTREAM_PADDING
    padded = steps + min(left, steps) + min(padding * 3 * _UPSTREAM_PADDING, steps)
    starts = np.array([floor(i * steps_per_frame) for i in range(count)], dtype=np.int64)
    if count == 0 or starts[-1] + WINDOW_STEPS > padded:
        raise InputError(
            f"upstream cannot make windows for {samples} samples at {fps} fps; leave parity off for this sound"
        )
    return starts - min(left, steps)
