"""Work in the background that makes way for other work at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class OneTask:
    """The one task of its kind; those that made way for it may still be ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def exists(self) -> bool:
        """Whether there is one that was not told to end, and has not failed."""
        return self._task is not None and not self._task.done()

    @property
    def is_caller(self) -> bool:
        """Whether the caller is that task."""
        return self._task is not None and self._task is asyncio.current_task()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` instead of what is being done."""
        self.halt()
        self._task = asyncio.get_running_loop().create_task(work, name=self._name)
        self._task.add_done_callback(_tell_failure)

    def halt(self) -> None:
        """Tell it to end, without waiting: it does so where it waits."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Halt it, and wait until nothing of it runs."""
        self.halt()
        await asyncio.gather(*self._ending, return_exceptions=True)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s failed", task.get_name(), exc_info=task.exception())
