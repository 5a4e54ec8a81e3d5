"""Batches that turn out too large for the GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch


def run_in_halves(run: Callable[..., torch.Tensor], *batches: torch.Tensor) -> torch.Tensor:
    """``run(*batches)``; when the device runs out of memory, the same in halves, down to single items.

    batches: tensors of equal length on axis 0. The results are joined on axis 0. Raises torch.OutOfMemoryError when
    one item alone does not fit.
    """
    count = len(batches[0])
    try:
        return run(*batches)
    except torch.OutOfMemoryError:
        if count < 2:
            raise
    # Outside the handler: the exception's traceback holds the failed pass's tensors.
    gc.collect()
    torch.cuda.empty_cache()
    half = count // 2
    parts = ([batch[:half] for batch in batches], [batch[half:] for batch in batches])
    return torch.cat([run_in_halves(run, *part) for part in parts])
