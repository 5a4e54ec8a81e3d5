"""How a long measurement says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[int, int], None]
"""``step(done, total)`` within one stage."""


def no_step(done: int, total: int) -> None:
    """Nobody is watching."""
