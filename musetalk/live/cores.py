"""A CPU's cores side by side: one piece of work on each, instead of each piece spread over all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cores:
    """Threads that compute with one core each.

    A network's steps are too small to be shared out: outside of a process's first thread OpenMP's helpers go to sleep
    between any two of them, and two cores take longer for a frame than one does.
    """

    def __init__(self) -> None:
        count = core_count()
        self._pool = ThreadPoolExecutor(count, "musetalk-live-core")
        before, all_there = torch.get_num_threads(), threading.Barrier(count)

        def begin() -> None:
            # Of this thread alone, as it is asked for within it; of later threads too, until it is set again below.
            torch.set_num_threads(1)
            all_there.wait()

        for started in [self._pool.submit(begin) for _ in range(count)]:
            started.result()
        torch.set_num_threads(before)

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results in order; all have ended when it returns or raises."""
        futures = [self._pool.submit(work, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    def close(self) -> None:
        self._pool.shutdown()
