"""Streamed sound at another rate, the same samples however it is cut into packets."""

from __future__ import annotations

import numpy as np
import soxr

from ..audio.waveform import SAMPLE_RATE
from ..errors import InputError

MAX_RATE = 384_000


class StreamResampler:
    """Mono sound from one rate to another, packet by packet, with the resampler the offline path uses (``soxr_hq``).

    All parts joined are bit for bit what a file of the same samples gives, however the sound was cut into packets:
    ``ceil(n * rate_out / rate_in)`` samples for n. What is given out lags behind what was pushed by the filter's
    block: 37 ms from 24 and 48 kHz to 16, 40 ms from 44.1; nothing between equal rates. One thread at a time.
    """

    def __init__(self, rate_in: int, rate_out: int = SAMPLE_RATE) -> None:
        """Raises InputError for a rate outside 1 to 384,000 Hz."""
        for rate in (rate_in, rate_out):
            if not 1 <= rate <= MAX_RATE:
                raise InputError(f"the sample rate is {rate} Hz; it must be from 1 to {MAX_RATE}")
        self.rate_in, self.rate_out = rate_in, rate_out
        self.reset()

    def reset(self) -> None:
        """Forget what was pushed and start a new sound."""
        self._pushed = self._given = 0
        self._stream: soxr.ResampleStream | None = None
        if self.rate_in != self.rate_out:
            self._stream = soxr.ResampleStream(self.rate_in, self.rate_out, 1, dtype="float32", quality="HQ")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """float32 ``[n]`` at ``rate_in`` to the float32 ``[m]`` at ``rate_out`` that are final by now; m may be 0."""
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        resampled = samples if self._stream is None else self._stream.resample_chunk(samples)
        self._pushed += len(samples)
        self._given += len(resampled)
        return resampled

    def flush(self) -> np.ndarray:
        """The end of the sound, float32 ``[m]``; the next push starts a new one."""
        missing = -(-self._pushed * self.rate_out // self.rate_in) - self._given
        tail = np.zeros(0, dtype=np.float32)
        if self._stream is not None:
            tail = self._stream.resample_chunk(tail, last=True)[:missing]
        self.reset()
        # The resampler's own rounding may be a sample short of the offline length.
        return np.pad(tail, (0, missing - len(tail)))
