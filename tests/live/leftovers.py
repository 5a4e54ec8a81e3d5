"""What a process holds, so that a test can tell whether something stayed behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import platform
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

# Of their classes no object may stay behind, but for timers: the loop forgets cancelled ones in its own time.
_WATCHED = ("musetalk.", "aiortc.", "aioice.", "aiohttp.", "asyncio.", "pyee.", "av.", "concurrent.")
_TIMER = "asyncio.events.TimerHandle"
# Pools grow to their size in their own time; what counts is what runs beside them.
_POOLS = ("asyncio", "musetalk-encode")
_FILES = Path("/proc/self/fd")


@dataclass(frozen=True)
class Held:
    """tasks: of the running loop. threads: without those of pools. files: open ones, 0 where that is not known.
    objects: how many of each class. memory: bytes of the process, 0 where that is not steady enough to tell.
    """

    tasks: frozenset[asyncio.Task]
    threads: frozenset[threading.Thread]
    files: int
    objects: Counter[str]
    memory: int

    @classmethod
    def now(cls) -> Held:
        """Call in the event loop, when what was ended has had its time to end."""
        gc.collect()
        kinds = (f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
        return cls(
            frozenset(asyncio.all_tasks()),
            frozenset(thread for thread in threading.enumerate() if not thread.name.startswith(_POOLS)),
            len(list(_FILES.iterdir())) if _FILES.is_dir() else 0,
            Counter(kind for kind in kinds if kind.startswith(_WATCHED) and kind != _TIMER),
            _memory(),
        )

    def assert_kept(self, cycles: int, memory_per_cycle: int, halfway: Held) -> None:
        """That so many cycles later nothing more is held than this, and hardly more memory.

        Only what grew in both halves counts as memory: a heap takes a step now and then, a leak all the time.
        """
        now = Held.now()
        assert not now.tasks - self.tasks, f"tasks left running: {now.tasks - self.tasks}"
        assert not now.threads - self.threads, f"threads left running: {now.threads - self.threads}"
        assert now.files <= self.files + 2, f"{now.files} files are open, {self.files} were"
        # Some are on their way out; what stays behind does so in every cycle, or in every third or fourth.
        grown = {kind: count for kind, count in (now.objects - self.objects).items() if count > cycles // 10}
        assert not grown, f"objects left behind by {cycles} cycles: {grown}"
        more = 2 * min(halfway.memory - self.memory, now.memory - halfway.memory) // cycles
        assert more < memory_per_cycle, f"each cycle left {more} bytes of memory behind"


def _memory() -> int:
    """Without what was freed: every thread that is or was has a heap of its own, whose holes come and go."""
    if platform.libc_ver()[0] != "glibc":
        return 0
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss
