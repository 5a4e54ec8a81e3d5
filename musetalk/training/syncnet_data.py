"""Batches for SyncNet: of a training sample only the lower halves and their sound are kept, a quarter of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..models.syncnet import stack_lower_halves
from .data import ClipDataset, SampleOptions, collate
from .loading import load_batches
from .syncnet_config import SyncNetTrainingConfig
from .syncnet_pairs import draw_partners

_FRAMES, _MEL = (48, 128, 256), (1, 80, 52)


class SyncBatch(NamedTuple):
    """frames: float32 ``[B, 48, 128, 256]``, see `stack_lower_halves`. mel: float32 ``[B, 1, 80, 52]``, their sound.

    keys: their clips. starts: int64 ``[B]``, their first frames.
    """

    frames: Tensor
    mel: Tensor
    keys: Sequence[str]
    starts: Tensor


def collate_pairs(samples: Sequence[Mapping[str, Tensor | str]]) -> SyncBatch:
    """A batch of samples of `ClipDataset`."""
    wanted = [
        {
            "frames": stack_lower_halves(torch.as_tensor(sample["targets"])[None])[0],
            **{name: sample[name] for name in ("sync_mel", "key", "start")},
        }
        for sample in samples
    ]
    batch = collate(wanted)
    frames, mel, starts = (batch[name] for name in ("frames", "sync_mel", "start"))
    assert isinstance(frames, Tensor) and isinstance(mel, Tensor) and isinstance(starts, Tensor)
    return SyncBatch(frames, mel[:, None], [str(key) for key in batch["key"]], starts)


def training_pairs(config: SyncNetTrainingConfig, rank: int, processes: int, micro_steps: int) -> Iterator[SyncBatch]:
    """This process's batches for ever, from the one after ``micro_steps`` micro-steps; the first is checked here.

    Raises InputError for a data set that cannot be used.
    """
    data = config.data
    dataset = ClipDataset(
        data.path,
        "train",
        _options(config),
        seed=config.seed,
        samples_per_clip=data.samples_per_clip,
        mix=_clips_of(data.batch_size, data.samples_per_clip),
        min_face=data.min_face,
        rank=rank,
        world_size=processes,
        batch_size=data.batch_size,
        consumed=micro_steps * data.batch_size,
    )
    batches = load_batches(dataset, data.batch_size, collate_pairs, workers=data.workers, drop_last=True)
    first = next(batches)
    _check(first)
    return chain([first], batches)


def validation_pairs(config: SyncNetTrainingConfig) -> Iterator[tuple[SyncBatch, np.ndarray]]:
    """Batches of the val part with their partners (see `draw_partners`), the same every time.

    Read anew each time, since some hundred samples of 6 MB are too many to keep. Raises InputError.
    """
    data, validation = config.data, config.validation
    try:
        dataset = ClipDataset(
            data.path,
            "val",
            _options(config),
            samples_per_clip=data.samples_per_clip,
            mix=_clips_of(validation.batch_size, data.samples_per_clip),
            min_face=data.min_face,
            epochs=1,
        )
    except InputError as error:
        raise InputError(f"{error}; or do without validation: validation.every: 0") from error
    batches = load_batches(dataset, validation.batch_size, collate_pairs)
    for number, batch in enumerate(islice(batches, validation.batches)):
        yield batch, draw_partners(batch.keys, batch.starts, data.least_shift, np.random.default_rng(number))


def check_validation(config: SyncNetTrainingConfig) -> None:
    """Refuse, before any network is built, a val part of which no pair can be made. Raises InputError."""
    for batch, partners in validation_pairs(config):
        _check(batch)
        if (partners >= 0).any():
            return
    raise InputError(
        f"no two samples of the val part of {config.data.path} are out of sync with each other; add videos to it, "
        "lower data.least_shift, raise data.samples_per_clip, or do without validation: validation.every: 0"
    )


def _options(config: SyncNetTrainingConfig) -> SampleOptions:
    # References are not looked at: the kind that is drawn fastest.
    data = config.data
    return SampleOptions(
        frames=data.frames,
        reference="random",
        margin=data.margin,
        margin_mean=data.margin_mean,
        margin_spread=data.margin_spread,
    )


def _clips_of(batch_size: int, samples_per_clip: int) -> int:
    """Clips to mix so that the samples of a clip come into one batch, where they are each other's partners."""
    return max(1, batch_size // samples_per_clip)


def _check(batch: SyncBatch) -> None:
    for name, tensor, shape in (("frames", batch.frames, _FRAMES), ("sync_mel", batch.mel, _MEL)):
        if tuple(tensor.shape[1:]) != shape or not torch.isfinite(tensor).all():
            raise InputError(
                f"the first batch of the data set is not usable ({', '.join(batch.keys)}): {name} is "
                f"{list(tensor.shape)}, not finite numbers [B, {', '.join(map(str, shape))}]; make the data set again"
            )
