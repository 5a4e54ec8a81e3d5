"""Which sample each reader makes next, for any number of readers: arithmetic on the index, nothing is read.

An epoch visits every clip once and draws ``samples_per_clip`` samples of it. Shards come in an order that changes from
epoch to epoch, clips as they lie in the shard, so that reading streams. The epoch's samples are cut into one stretch
per reader, equal but for one sample; readers whose stretches meet in a clip each draw other samples of it. A reader
takes a few clips at a time and mixes their samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby, islice

import numpy as np

from ..errors import InputError
from .dataset_index import ClipEntry, Shard


@dataclass(frozen=True)
class Draw:
    """The ``number``-th sample of a clip in an epoch."""

    shard: Shard
    clip: ClipEntry
    number: int


@dataclass(frozen=True)
class Visit:
    """Draws whose clips are held together.

    draws: as their clips lie in the shards. order: in which they are given out; the first ``skip`` already were.
    """

    epoch: int
    draws: tuple[Draw, ...]
    order: tuple[int, ...]
    skip: int = 0


@dataclass(frozen=True)
class Plan:
    """The order of samples for one of ``readers``, epoch after epoch.

    shards: with the clips that are wanted only. mix: clips held together.
    """

    shards: Sequence[Shard]
    seed: int
    samples_per_clip: int
    mix: int
    reader: int = 0
    readers: int = 1

    @property
    def epoch_samples(self) -> int:
        """Samples of an epoch, of all readers together."""
        return self.samples_per_clip * sum(len(shard.clips) for shard in self.shards)

    def visits(self, epoch: int = 0, consumed: int = 0, epochs: int | None = None) -> Iterator[Visit]:
        """Visits from the start of ``epoch`` on, without the first ``consumed`` samples of this reader.

        epochs: how many, None for ever. Raises InputError where this reader has nothing to read.
        """
        first, stop = self._stretch()
        if first == stop:
            raise InputError(
                f"{self.readers} readers (processes times loader workers) share {self.epoch_samples} samples an epoch; "
                "lower data.workers, raise data.samples_per_clip, or add clips"
            )
        whole, skip = divmod(consumed, stop - first)
        first_epoch = epoch + whole
        for number in count(first_epoch) if epochs is None else range(first_epoch, epoch + epochs):
            for visit in self._epoch(number, first, stop):
                if skip < len(visit.draws):
                    yield replace(visit, skip=skip)
                skip = max(0, skip - len(visit.draws))

    def _stretch(self) -> tuple[int, int]:
        total = self.epoch_samples
        return total * self.reader // self.readers, total * (self.reader + 1) // self.readers

    def _epoch(self, epoch: int, first: int, stop: int) -> Iterator[Visit]:
        rng = np.random.default_rng((self.seed, epoch, self.reader, self.readers))
        mine = groupby(islice(self._all(epoch), first, stop), key=lambda draw: draw.clip)
        while held := [draw for _, draws in islice(mine, self.mix) for draw in draws]:
            yield Visit(epoch, tuple(held), tuple(int(place) for place in rng.permutation(len(held))))

    def _all(self, epoch: int) -> Iterator[Draw]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        for shard in (self.shards[place] for place in order):
            for clip in shard.clips:
                for number in range(self.samples_per_clip):
                    yield Draw(shard, clip, number)
