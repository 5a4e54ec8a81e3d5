"""Sound at another rate, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr


def resampled(blocks: Iterator[np.ndarray], rate: int, wanted_rate: int) -> Iterator[np.ndarray]:
    """float32 ``[C, n]`` blocks from ``rate`` to ``wanted_rate`` Hz, with the ``soxr_hq`` resampler librosa uses.

    The result is ``ceil(n * wanted_rate / rate)`` samples long, as librosa's is.
    """
    if rate == wanted_rate:
        yield from blocks
        return
    resampler: soxr.ResampleStream | None = None
    heard = sent = channels = 0
    for block in blocks:
        if resampler is None:
            channels = len(block)
            resampler = soxr.ResampleStream(rate, wanted_rate, channels, dtype="float32", quality="HQ")
        heard += block.shape[1]
        part = _chunk(resampler, block)
        sent += part.shape[1]
        yield part
    if resampler is None:
        return
    # The resampler's own rounding may differ from librosa's by a sample at the end.
    wanted = -(-heard * wanted_rate // rate)
    tail = _chunk(resampler, np.zeros((channels, 0), np.float32), last=True)[:, : wanted - sent]
    yield np.pad(tail, ((0, 0), (0, wanted - sent - tail.shape[1])))


def _chunk(resampler: soxr.ResampleStream, block: np.ndarray, last: bool = False) -> np.ndarray:
    interleaved = np.ascontiguousarray(block.T) if len(block) > 1 else block[0]
    return resampler.resample_chunk(interleaved, last=last).reshape(-1, len(block)).T
