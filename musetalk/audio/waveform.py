"""Any sound to the 16 kHz mono samples the audio encoder hears (spec section 2.1, step 1)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType

import numpy as np

from ..errors import InputError
from .resampling import resampled
from .source import AudioSource

SAMPLE_RATE = 16_000
_SPOOL_BYTES = 8 << 20
_FLOAT_BYTES = 4


class Waveform:
    """16 kHz mono float32 samples of any length; past a few minutes they lie in a temporary file, not in memory."""

    def __init__(self) -> None:
        # Held open for the object's whole life and closed by close(); a with-block cannot span it.
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, samples: np.ndarray) -> None:
        """Add float32 ``[n]`` samples at the end."""
        self._spool.seek(self._length * _FLOAT_BYTES)
        self._spool.write(np.ascontiguousarray(samples, dtype=np.float32).tobytes())
        self._length += len(samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start..stop`` as float32 ``[n]``; the part past the end is left out."""
        stop = min(stop, self._length)
        self._spool.seek(start * _FLOAT_BYTES)
        return np.frombuffer(self._spool.read(max(0, stop - start) * _FLOAT_BYTES), dtype=np.float32)

    def close(self) -> None:
        self._spool.close()

    def __enter__(self) -> Waveform:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load_waveform(source: AudioSource, check_cancelled: Callable[[], None] | None = None) -> Waveform:
    """Decode a source to 16 kHz mono: mean over channels, then the ``soxr_hq`` resampler, as upstream's librosa does.

    Raises InputError for a source with no samples, and what the source raises while it is read.
    """
    waveform = Waveform()
    try:
        for samples in _resampled(source):
            if check_cancelled is not None:
                check_cancelled()
            waveform.append(samples)
        if len(waveform) == 0:
            raise InputError(f"the sound in {source.path or 'the given waveform'} has no samples; pass a longer one")
    except BaseException:
        waveform.close()
        raise
    return waveform


def _resampled(source: AudioSource) -> Iterator[np.ndarray]:
    # mean() of one channel is that channel, bit for bit.
    mono = (block.mean(axis=0, keepdims=True, dtype=np.float32) for block in source.blocks())
    return (block[0] for block in resampled(mono, source.sample_rate, SAMPLE_RATE))
