"""The viewer's voice at the rate an agent wants."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ..resampling import StreamResampler


class Microphone:
    """Mono sound, signed 16 bit little endian, in packets of any rate, to another rate: ``rate`` Hz."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._resampler: StreamResampler | None = None

    def take(self, pcm: bytes, rate: int) -> bytes:
        """What of all that was taken can be given by now. Raises InputError for half a sample, or no rate."""
        if len(pcm) % 2:
            raise InputError(f"{len(pcm)} bytes of 16 bit sound: the number must be even")
        if self._resampler is None or self._resampler.rate_in != rate:
            self._resampler = StreamResampler(rate, self._rate)
        return _to_pcm(self._resampler.push(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768))

    def rest(self) -> bytes:
        """The end of what was taken; another sound begins."""
        return b"" if self._resampler is None else _to_pcm(self._resampler.flush())


def _to_pcm(samples: np.ndarray) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
