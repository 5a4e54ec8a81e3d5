"""An avatar that plays when it is told to: what an agent drives, without a session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from musetalk.live.timeline import Played


@dataclass
class Heard:
    """One segment. Lengths in bytes."""

    rate: int
    pcm: bytearray = field(default_factory=bytearray)
    played: int = 0
    ended: bool = False


class PacedSink:
    """Segments as a session keeps them, played by ``play``. ahead_s: of unplayed sound, then it waits."""

    def __init__(self, ahead_s: float = 60.0) -> None:
        self.segments: list[Heard] = []
        self.clears: list[Played] = []
        self._ahead_s = ahead_s
        self._first = 0
        self._last = -1
        self._room = asyncio.Event()

    async def push_pcm(self, pcm: bytes, rate: int) -> int:
        clears = len(self.clears)
        while self._ahead() + len(pcm) / (2 * rate) > self._ahead_s:
            self._room.clear()
            await self._room.wait()
            if len(self.clears) != clears:
                return -1
        if len(self.segments) == self._first or self.segments[-1].ended:
            self.segments.append(Heard(rate))
        self.segments[-1].pcm += pcm
        return len(self.segments) - 1

    def end_of_segment(self) -> None:
        if len(self.segments) > self._first:
            self.segments[-1].ended = True

    def clear(self) -> Played:
        self._forget_played()
        waiting = self.segments[self._first :]
        if waiting and waiting[0].played:
            self._last = self._first
        played = Played(-1, 0)
        if self._last >= 0:
            last = self.segments[self._last]
            played = Played(self._last, last.played * 1000 // (2 * last.rate))
        self._first = len(self.segments)
        self._room.set()
        self.clears.append(played)
        return played

    def play(self, ms: float) -> None:
        """Let ``ms`` of what was pushed be heard."""
        for segment in self.segments[self._first :]:
            share = min(int(ms * segment.rate / 1000) * 2, len(segment.pcm) - segment.played)
            segment.played += share
            ms -= share * 1000 / (2 * segment.rate)
        self._forget_played()
        self._room.set()

    def _forget_played(self) -> None:
        while self._first < len(self.segments) and self._is_over(self.segments[self._first]):
            self._last = self._first
            self._first += 1

    @staticmethod
    def _is_over(segment: Heard) -> bool:
        return segment.ended and segment.played == len(segment.pcm)

    def _ahead(self) -> float:
        return sum((len(s.pcm) - s.played) / (2 * s.rate) for s in self.segments[self._first :])


async def settle() -> None:
    """Let every task that can go on do so, a few times over."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition, timeout_s: float = 30.0) -> None:
    """Wait until ``condition()`` holds; fails the test when it does not come to hold."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
