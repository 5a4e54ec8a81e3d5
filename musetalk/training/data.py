"""Training samples, streamed from the shards of a data set."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import InputError
from .clip_file import FPS, Clip
from .dataset_index import DatasetIndex, Shard, Split
from .plan import Draw, Plan, Visit
from .recipe import Cut, Sample, SampleOptions, collate, cut_out, draw_recipe, finish, mel_of
from .sampling import in_box
from .shards import Members, read_shard

__all__ = ["ClipDataset", "SampleOptions", "collate"]

logger = logging.getLogger(__name__)

# As upstream: room for references that are not beside the target.
_LEAST_FRAMES_PER_TARGET = 10


class ClipDataset(IterableDataset[Sample]):
    """Samples of a training set, for ever unless ``epochs`` says how long; a function of seed, rank and worker alone.

    A sample is a dict: ``targets`` and ``references`` float32 ``[T, 3, 256, 256]`` RGB in [-1, 1]; ``mouth`` int64
    ``[T, 4]`` x0 y0 x1 y1 in those pictures; ``mel`` float32 ``[80, 3000]`` of the clip's sound and ``window_starts``
    int64 ``[T]``, each target's first encoder step in it; ``sound_steps`` int64, how many steps the sound has (windows
    hold zeros outside them, as in use); ``sync_mel`` float32 ``[80, 52]`` of the targets' own time, zeros unless T is
    16; ``key`` str; ``start`` int64, the first target's frame.

    For a ``DataLoader`` with ``collate_fn=collate``. It splits itself by rank and worker, so the loader must not be
    sharded once more (``accelerator.prepare`` would).
    """

    def __init__(
        self,
        folder: Path | str,
        split: Split = "train",
        options: SampleOptions | None = None,
        *,
        seed: int = 0,
        samples_per_clip: int = 4,
        mix: int = 8,
        min_face: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
        epoch: int = 0,
        consumed: int = 0,
        epochs: int | None = None,
        bad_clips: int = 0,
    ) -> None:
        """
        samples_per_clip: drawn at each visit of a clip, which is decoded once for all of them.
        mix: clips held at a time, whose samples are mixed. A worker holds ``mix * samples_per_clip`` samples of
            ``2 * T`` crops, 0.2 MB each.
        min_face: least width in pixels of a clip's first box. A clip has at least ``10 * T`` frames, as upstream.
        rank, world_size: this process among those that train together.
        batch_size: of the loader; with workers, what follows ``consumed`` depends on it.
        epoch, consumed: go on after so many samples of this rank, counted from the start of that epoch; with the same
            seed, ranks, workers and batch size exactly those follow that would have.
        epochs: how many, None for ever.
        bad_clips: damaged clips that each worker passes over with a warning before it gives up; others of the same
            visit take their place. By default the first one is an error.

        Says in the log, for the first rank, how much of the set is long and large enough. Raises InputError for a
        folder that is no data set, and where nothing is.
        """
        self._index = DatasetIndex.load(folder)
        self._options = options or SampleOptions()
        shards = _wanted(self._index, split, self._options.frames, min_face, tell=rank == 0)
        for name, value, low in (
            ("samples_per_clip", samples_per_clip, 1),
            ("mix", mix, 1),
            ("batch_size", batch_size, 1),
            ("consumed", consumed, 0),
        ):
            if value < low:
                raise InputError(f"{name} is {value}; pass at least {low}")
        if not 0 <= rank < world_size:
            raise InputError(f"rank {rank} is not one of {world_size}")
        self._plan = Plan(shards, seed, samples_per_clip, mix)
        self._rank, self._world_size = rank, world_size
        self._batch_size = batch_size
        self._epoch, self._consumed, self._epochs = epoch, consumed, epochs
        self._bad_clips = bad_clips

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        batches, rest = divmod(self._consumed, self._batch_size)
        if rest and workers > 1:
            raise InputError(
                f"{self._consumed} samples are no whole batches of {self._batch_size}; workers cannot go on"
            )
        # The loader takes a batch from each worker in turn, and begins with the first again after a restart.
        part = (worker + batches) % workers
        taken = len(range(part, batches, workers)) * self._batch_size + rest
        plan = replace(self._plan, reader=self._rank * workers + part, readers=self._world_size * workers)
        reader = _Reader(self._index, self._options, plan, self._bad_clips)
        for visit in plan.visits(self._epoch, taken, self._epochs):
            yield from reader.samples(visit)


@dataclass(frozen=True)
class _Made:
    """A sample but for its last step, which multiplies its size."""

    key: str
    clip: Clip
    cut: Cut


class _Reader:
    """Makes the samples of visits, one worker's, in the plan's order."""

    def __init__(self, index: DatasetIndex, options: SampleOptions, plan: Plan, bad_allowed: int) -> None:
        self._stream = _Stream(index)
        self._options, self._plan = options, plan
        self._bad: set[str] = set()
        self._bad_allowed = bad_allowed

    def samples(self, visit: Visit) -> Iterator[Sample]:
        made = self._make_all(visit)
        mels: dict[str, torch.Tensor] = {}
        for place in visit.order[visit.skip :]:
            one = made[place]
            if one.key not in mels:
                mels[one.key] = mel_of(one.clip)
            yield finish(one.key, one.clip, one.cut, mels[one.key])

    def _make_all(self, visit: Visit) -> list[_Made]:
        """One for each of the visit's draws; those already given out too, so that the same clips prove to be bad."""
        made: list[_Made | None] = []
        good: dict[str, Clip] = {}
        for entry, same in groupby(visit.draws, key=lambda draw: draw.clip):
            draws = list(same)
            try:
                clip = self._open(visit.epoch, draws[0])
                made += self._make(visit.epoch, entry.key, clip, [draw.number for draw in draws])
                good[entry.key] = clip
            except InputError as error:
                self._pass_over(draws[0], error)
                made += [None] * len(draws)
        return self._fill(visit.epoch, made, good)

    def _fill(self, epoch: int, made: list[_Made | None], good: dict[str, Clip]) -> list[_Made]:
        """Further samples of the good clips, in turn, where a bad clip's are missing."""
        gaps = [place for place, one in enumerate(made) if one is None]
        if gaps and not good:
            raise InputError("every clip held at a time is damaged; make the data set again")
        keys = list(good)
        for number, place in enumerate(gaps):
            key = keys[number % len(keys)]
            (made[place],) = self._make(epoch, key, good[key], [self._plan.samples_per_clip + number])
        return [one for one in made if one is not None]

    def _open(self, epoch: int, draw: Draw) -> Clip:
        clip = Clip.parse(self._stream.take(epoch, draw.shard, draw.clip.key))
        if len(clip) != draw.clip.frames:
            raise InputError(f"it has {len(clip)} frames, not the {draw.clip.frames} of the index")
        return clip

    def _make(self, epoch: int, key: str, clip: Clip, numbers: list[int]) -> list[_Made]:
        placed = in_box(clip.landmarks, clip.boxes)
        name = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        recipes = [
            draw_recipe(clip, placed, self._options, np.random.default_rng((self._plan.seed, epoch, name, number)))
            for number in numbers
        ]
        return [_Made(key, clip, cut) for cut in cut_out(clip, recipes)]

    def _pass_over(self, draw: Draw, error: InputError) -> None:
        message = f"clip {draw.clip.key} of shard {draw.shard.name} is unusable: {error}"
        self._bad.add(draw.clip.key)
        if len(self._bad) > self._bad_allowed:
            raise InputError(
                f"{message}; make the data set again, or raise data.bad_clips above {self._bad_allowed} to pass over it"
            ) from error
        logger.warning("%s; passed over (%d of %d allowed)", message, len(self._bad), self._bad_allowed)


class _Stream:
    """Clips of shards by key, in the order in which they lie there, each shard read once."""

    def __init__(self, index: DatasetIndex) -> None:
        self._index = index
        self._place: tuple[int, str] | None = None
        self._samples: Iterator[tuple[str, Members]] = iter(())

    def take(self, epoch: int, shard: Shard, key: str) -> Members:
        if self._place != (epoch, shard.name):
            self._place = epoch, shard.name
            self._samples = read_shard(self._index.path(shard))
        try:
            for found, members in self._samples:
                if found == key:
                    return members
        except InputError:
            self._place = None
            raise
        self._place = None
        raise InputError("it is not in the shard, though the index names it")


def _wanted(index: DatasetIndex, split: Split, targets: int, face: int, *, tell: bool) -> tuple[Shard, ...]:
    """The shards with the clips that are long and large enough, without the shards that have none; how many these are.

    tell: in the log. Raises InputError where there is none.
    """
    shards, frames = index.shards(split), _LEAST_FRAMES_PER_TARGET * targets
    parts = (
        Shard(shard.name, tuple(clip for clip in shard.clips if clip.frames >= frames and clip.face >= face))
        for shard in shards
    )
    kept = tuple(shard for shard in parts if shard.clips)
    whole, used = (_length(part) for part in (shards, kept))
    needed = f"{frames} frames ({float(frames / FPS):g} s, ten times data.frames={targets}) and a face {face} px wide"
    if not kept:
        longest = max((clip.frames for shard in shards for clip in shard.clips), default=0)
        widest = max((clip.face for shard in shards for clip in shard.clips), default=0)
        raise InputError(
            f"none of the {whole[0]} {split} clips of {index.folder} has {needed}: the longest has {longest} frames, "
            f"the widest face {widest} px; add videos, or lower data.frames or data.min_face"
        )
    if tell:
        logger.log(
            logging.INFO if used == whole else logging.WARNING,
            "%d of %d %s clips of %s are used, %.0f of %.0f s; a clip needs %s",
            *(used[0], whole[0], split, index.folder, used[1], whole[1], needed),
        )
    return kept


def _length(shards: Iterable[Shard]) -> tuple[int, float]:
    """Clips, and seconds of them."""
    frames = [clip.frames for shard in shards for clip in shard.clips]
    return len(frames), float(sum(frames) / FPS)
