"""Batches of a run: this process's share of the training part, and the fixed ones of the validation part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

import torch
from torch import Tensor

from ..errors import InputError
from ..latents import FACE_SIZE
from .config import TrainingConfig
from .data import ClipDataset, SampleOptions, collate
from .generator import Batch
from .loading import load_batches

_MEL = (80, 3000)
_SYNC_MEL = (80, 52)
_PICTURES = ("targets", "references")


def training_batches(config: TrainingConfig, rank: int, processes: int, micro_steps: int) -> Iterator[Batch]:
    """This process's batches for ever, from the one after ``micro_steps`` micro-steps; the first is checked here.

    Raises InputError for a data set that cannot be used.
    """
    data = config.data
    dataset = ClipDataset(
        data.path,
        "train",
        replace(sample_options(config), augmentation=data.augmentation),
        seed=config.seed,
        samples_per_clip=data.samples_per_clip,
        min_face=data.min_face,
        bad_clips=data.bad_clips,
        rank=rank,
        world_size=processes,
        batch_size=data.batch_size,
        consumed=micro_steps * data.batch_size,
    )
    batches = load_batches(dataset, data.batch_size, collate, workers=data.workers, drop_last=True)
    first = next(batches)
    check_batch(first, config)
    return chain([first], batches)


def validation_batches(config: TrainingConfig) -> list[Batch]:
    """The same batches every time, of the data set's val part; none where validation is off. Raises InputError."""
    data, validation = config.data, config.validation
    if validation.every == 0:
        return []
    try:
        dataset = ClipDataset(
            data.path,
            "val",
            sample_options(config),
            min_face=data.min_face,
            samples_per_clip=1,
            bad_clips=data.bad_clips,
            epochs=1,
        )
    except InputError as error:
        raise InputError(f"{error}; or do without validation: validation.every: 0") from error
    batches = list(islice(load_batches(dataset, validation.batch_size, collate), validation.batches))
    for batch in batches:
        check_batch(batch, config)
    return batches


def sample_options(config: TrainingConfig) -> SampleOptions:
    """How samples are cut, without augmentation: validation looks at faces as they are."""
    data = config.data
    return SampleOptions(
        frames=data.frames,
        reference=data.reference,
        top_k=data.top_k,
        margin=data.margin,
        margin_mean=data.margin_mean,
        margin_spread=data.margin_spread,
    )


def check_batch(batch: Batch, config: TrainingConfig) -> None:
    """Refuse, before any network is built, what training would stumble over. Raises InputError naming the tensor."""
    frames = config.data.frames
    picture = (frames, 3, FACE_SIZE, FACE_SIZE)
    wanted: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        **dict.fromkeys(_PICTURES, (picture, torch.float32)),
        "mouth": ((frames, 4), torch.int64),
        "mel": (_MEL, torch.float32),
        "window_starts": ((frames,), torch.int64),
        "sound_steps": ((), torch.int64),
        "sync_mel": (_SYNC_MEL, torch.float32),
    }
    for name, (shape, dtype) in wanted.items():
        tensor = batch.get(name)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape[1:]) != shape or tensor.dtype != dtype:
            found = f"{list(tensor.shape)} {tensor.dtype}" if isinstance(tensor, Tensor) else "missing"
            raise _bad(f"{name} is {found}, not [B, {', '.join(map(str, shape))}] {dtype}", batch)
        if not torch.isfinite(tensor).all():
            raise _bad(f"{name} has values that are no finite numbers", batch)
    for name in _PICTURES:
        low, high = batch[name].aminmax()
        if low < -1 or high > 1 or low == high:
            raise _bad(f"{name} lies in [{low:g}, {high:g}]; pictures fill a part of [-1, 1]", batch)


def _bad(problem: str, batch: Batch) -> InputError:
    keys = batch.get("key", "unknown clips")
    return InputError(f"the first batch of the data set is not usable ({keys}): {problem}; make the data set again")
