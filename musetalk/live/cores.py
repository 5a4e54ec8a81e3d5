"""A CPU's cores side by side: a thread for each, instead of each piece of work spread over all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from math import ceil
from pathlib import Path

import torch

# What a container may use in a period, in microseconds, "max 100000" without a limit (control groups, version 2).
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def core_count() -> int:
    """Cores that this process may use, by its affinity and its container's limit."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return min(count, max(1, ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # there is none
        return count


def stream_count(device: torch.device | None) -> int:
    """How many batches are best computed at the same time: one on a GPU (None too), on a CPU one on each core."""
    return core_count() if device is not None and device.type == "cpu" else 1


def start_threads(count: int, target: Callable[[], None], name: str, *, one_core: bool) -> list[threading.Thread]:
    """Start daemon threads that run ``target``. one_core: each computes with one core.

    A network's steps are too small to be shared out: outside of a process's first thread OpenMP's helpers go to sleep
    between any two of them, and two cores take longer for a frame than one does.
    """
    before, all_there = torch.get_num_threads(), threading.Barrier(count + 1)

    def run() -> None:
        if one_core:
            torch.set_num_threads(1)
            # A thread takes the number that holds for the process when it first needs it: this thread takes the one
            # just set, and others the one that is set again below.
            torch.get_num_threads()
        all_there.wait()
        target()

    threads = [threading.Thread(target=run, name=name, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
        all_there.wait()
    except BaseException:
        # Those that have started would wait for the others for ever.
        all_there.abort()
        raise
    finally:
        if one_core:
            torch.set_num_threads(before)
    return threads
