"""The sound of a session cut into 20 ms packets."""

from __future__ import annotations

from .timeline import PACKETS_PER_SECOND, AudioItem


class Packets:
    """Cuts sound that comes frame by frame into packets, stamped by counting; the rate changes in silence only."""

    def __init__(self) -> None:
        self._next = 0
        self._rate = 0
        self._pcm = bytearray()

    def add(self, pcm: bytes, rate: int, start: int) -> list[AudioItem]:
        """The packets that are full now. start: position of the first sample of ``pcm`` in the session, at ``rate``."""
        length = rate // PACKETS_PER_SECOND
        if rate != self._rate:
            # What there is of a packet is silence: as much of it at the new rate.
            self._pcm = bytearray(2 * (start - self._next * length))
            self._rate = rate
        self._pcm += pcm
        items = []
        while len(self._pcm) >= 2 * length:
            items.append(AudioItem(self._next * length, bytes(self._pcm[: 2 * length]), rate))
            del self._pcm[: 2 * length]
            self._next += 1
        return items

    def skip_to(self, start: int, rate: int) -> list[AudioItem]:
        """The next sound begins at this sample of the session, at ``rate``; what is left out is not given out.

        Returns the packet that was begun, if any, filled up with silence: its sound counts as played.
        """
        begun = bytes(self._pcm).ljust(2 * (self._rate // PACKETS_PER_SECOND), b"\0")
        items = [AudioItem(self._next * len(begun) // 2, begun, self._rate)] if self._pcm else []
        length = rate // PACKETS_PER_SECOND
        self._next, self._rate = start // length, rate
        self._pcm = bytearray(2 * (start - self._next * length))
        return items
