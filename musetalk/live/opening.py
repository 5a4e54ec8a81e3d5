"""Opening an avatar for somebody who may have gone before it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .live_avatar import LiveAvatar


async def open_avatar(open: Callable[[str], LiveAvatar], name: str, executor: Executor | None = None) -> LiveAvatar:
    """``open(name)`` in a thread; when the caller is cancelled, the avatar is released as soon as it is open.

    open: a store's. executor: None is the loop's own. Raises what ``open`` does.
    """
    opening = asyncio.get_running_loop().run_in_executor(executor, open, name)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # A thread cannot be stopped, and what nobody releases stays in use for ever.
        opening.add_done_callback(_release)
        raise


def _release(opening: asyncio.Future[LiveAvatar]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().release()
