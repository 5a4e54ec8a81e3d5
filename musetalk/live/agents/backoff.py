"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ...errors import InputError


@dataclass(frozen=True)
class Backoff:
    """Waits that double, in seconds: from ``first`` up to ``longest``, ``attempts`` times in a row and then no more.

    Each is drawn from the upper half of its range, so that many clients of one fallen server do not return as one.
    """

    first: float = 0.5
    longest: float = 15.0
    attempts: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.longest or self.attempts < 0:
            raise InputError(
                f"{self.attempts} attempts, waits of {self.first} s to {self.longest} s: give 0 <= first <= longest"
            )

    def delay(self, attempt: int) -> float:
        """Seconds before attempt 0, 1, ..."""
        full = min(self.longest, self.first * 2 ** min(attempt, 30))
        return full * random.uniform(0.5, 1.0)
