"""A thread for networks so small that sharing them out over cores costs more than it gains."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch


def single_core_worker() -> ThreadPoolExecutor | None:
    """One thread in which torch computes alone; None where torch cannot limit a single thread.

    A pass of the mesh network takes 4 ms. Shared between two cores it takes 3 ms while the machine is idle,
    but waits 100 to 800 ms for the other core when something else is running there, as it is in a pipeline.
    """
    if "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    cores = torch.get_num_threads()
    worker = ThreadPoolExecutor(1, thread_name_prefix="facemesh")
    worker.submit(torch.set_num_threads, 1).result()
    # The worker keeps its 1; but torch also made it what threads born from now on start with.
    torch.set_num_threads(cores)
    return worker
