"""A CPU's cores side by side: a thread for each, instead of each piece of work spread over all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import torch


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_threads(count: int, target: Callable[[], None], name: str) -> list[threading.Thread]:
    """Start daemon threads that run ``target``; more than one compute with one core each.

    A network's steps are too small to be shared out: outside of a process's first thread OpenMP's helpers go to sleep
    between any two of them, and two cores take longer for a frame than one does.
    """
    before, all_there = torch.get_num_threads(), threading.Barrier(count + 1)

    def run() -> None:
        if count > 1:
            torch.set_num_threads(1)
            # A thread takes the number that holds for the process when it first needs it: this thread takes the one
            # just set, and others the one that is set again below.
            torch.get_num_threads()
        all_there.wait()
        target()

    threads = [threading.Thread(target=run, name=name, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    all_there.wait()
    if count > 1:
        torch.set_num_threads(before)
    return threads
