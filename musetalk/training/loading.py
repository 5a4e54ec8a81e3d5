"""Batches of a data set through a ``DataLoader``, with errors as they were raised, whichever process raised them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from ..errors import MuseTalkError
from .stopping import leave_signals_to_parent


def load_batches(
    dataset: IterableDataset[Any],
    batch_size: int,
    collate: Callable[[list[Any]], Any],
    *,
    workers: int = 0,
    drop_last: bool = False,
) -> Iterator[Any]:
    """What ``collate`` makes of ``batch_size`` samples at a time, in so many worker processes, in this one for 0.

    drop_last: leave out a last batch of fewer.
    Raises the MuseTalkErrors of the data set: PyTorch would bring them out of a worker as a text with its traceback.
    """
    loader = DataLoader(
        _ErrorsAsValues(dataset),
        batch_size=batch_size,
        num_workers=workers,
        worker_init_fn=leave_signals_to_parent,
        collate_fn=partial(_collate, collate),
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        # Of its own: the loader would draw its workers' seeds from the generator that training draws from.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, MuseTalkError):
            raise batch
        yield batch


class _ErrorsAsValues(IterableDataset[Any]):
    def __init__(self, dataset: IterableDataset[Any]) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._dataset
        except MuseTalkError as error:
            yield from repeat(error)  # a batch that is not full would be dropped, and the error with it


def _collate(collate: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    for sample in samples:
        if isinstance(sample, MuseTalkError):
            return sample
    return collate(samples)
