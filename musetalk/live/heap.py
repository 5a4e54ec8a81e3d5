"""The allocator of a process that needs the same memory again 25 times a second."""

from __future__ import annotations

import ctypes
import logging
import platform

logger = logging.getLogger(__name__)

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 256 << 20
# The largest that every glibc takes.
_MAPPED_FROM_BYTES = 32 << 20


def keep_freed_memory() -> None:
    """Have glibc keep up to 256 MB of freed memory instead of giving every large block back to the system.

    A network's activations are such blocks: on a CPU a fifth of a small network's time is spent on getting them
    zeroed page by page again. One heap for all threads, since those of the others are given back whenever they are
    empty. For the whole process, so for programs of our own only, before they start threads; elsewhere than glibc it
    does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    wanted = ((_ARENA_MAX, 1), (_TRIM_THRESHOLD, _KEPT_BYTES), (_MMAP_THRESHOLD, _MAPPED_FROM_BYTES))
    taken = [mallopt(option, value) for option, value in wanted]
    if not all(taken):
        logger.warning("malloc takes no thresholds here; frames on the CPU take a fifth longer")
