"""The clock a session is paced by: monotonic, so that a stepped system clock moves nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds from any origin that never go back, and a way to wait for one of them."""

    def now(self) -> float: ...

    async def sleep_until(self, moment: float) -> None:
        """Return at ``moment``, or, when it has passed, after other tasks had their turn."""


class MonotonicClock:
    """The real one: ``time.monotonic``, the same the worker's deadlines are counted in."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep_until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
