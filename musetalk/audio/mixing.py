"""Several sounds as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .resampling import resampled
from .source import AudioSource

_BLOCK = 1 << 16


class MixedAudio(AudioSource):
    """The sum of sounds that all begin at time 0, at the highest of their rates; as long as the longest.

    Stereo where any of them is, each other one in the middle; sound of more channels is mixed down to one. What goes
    beyond full scale is cut.
    """

    path = None

    def __init__(self, sources: Sequence[AudioSource]) -> None:
        self._sources = list(sources)
        self.sample_rate = max(source.sample_rate for source in sources)
        self.channels = 2 if any(source.channels == 2 for source in sources) else 1

    def _blocks(self) -> Iterator[np.ndarray]:
        readers = [_Reader(self._placed(source), self.channels) for source in self._sources]
        while True:
            parts = [reader.read(_BLOCK) for reader in readers]
            length = max(part.shape[1] for part in parts)
            if not length:
                return
            mixed = np.zeros((self.channels, length), np.float32)
            for part in parts:
                mixed[:, : part.shape[1]] += part
            yield mixed.clip(-1, 1)

    def _placed(self, source: AudioSource) -> Iterator[np.ndarray]:
        """The source's blocks with this sound's channels, at its rate."""
        blocks = (
            np.repeat(block if len(block) == 1 else block.mean(axis=0, keepdims=True), self.channels, axis=0)
            if len(block) != self.channels
            else block
            for block in source.blocks()
        )
        return resampled(blocks, source.sample_rate, self.sample_rate)


class _Reader:
    """Blocks of any length, read in lengths asked for."""

    def __init__(self, blocks: Iterator[np.ndarray], channels: int) -> None:
        self._blocks = blocks
        self._left = np.zeros((channels, 0), np.float32)

    def read(self, length: int) -> np.ndarray:
        """float32 ``[C, length]``, fewer at the end."""
        parts = [self._left]
        have = self._left.shape[1]
        while have < length and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            have += block.shape[1]
        whole = np.concatenate(parts, axis=1)
        self._left = whole[:, length:]
        return whole[:, :length]
