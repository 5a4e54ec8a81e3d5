"""The sound that a client has sent and its session has no room for yet."""

from __future__ import annotations

import asyncio
from collections import deque

from .errors import TooMuchAudioError

WAITING_SECONDS = 120.0
WAITING_BYTES = 16 << 20
# Pieces of one rate, and ends of utterances, that may wait.
WAITING_ENTRIES = 256
_PIECE_SECONDS = 0.5


class SoundUp:
    """Sound and ends of utterances, in order, bounded in seconds, in bytes, and in how often it changes.

    However small the messages are that it comes in, what lies between two ends takes its own bytes and little more.
    """

    def __init__(self) -> None:
        # One buffer for each stretch of one rate; an empty one of rate 0 is an end.
        self._entries: deque[tuple[bytearray, int]] = deque()
        self._seconds = 0.0
        self._bytes = 0
        self._news = asyncio.Event()

    def put(self, pcm: bytes, rate: int) -> None:
        """Mono, signed 16 bit little endian. Raises TooMuchAudioError, and takes none of it, when too much waits."""
        seconds = len(pcm) / 2 / rate
        if self._seconds + seconds > WAITING_SECONDS or self._bytes + len(pcm) > WAITING_BYTES:
            raise TooMuchAudioError(
                f"{self._seconds:.0f} s of sound wait to be spoken and this is {seconds:.1f} s more; at most "
                f"{WAITING_SECONDS:g} s may, so send it as it is spoken"
            )
        if not self._entries or self._entries[-1][1] != rate:
            self._add(bytearray(), rate)
        self._entries[-1][0].extend(pcm)
        self._seconds += seconds
        self._bytes += len(pcm)

    def end(self) -> None:
        """An utterance is complete; two ends without sound between them are one. Raises TooMuchAudioError."""
        if not self._entries or self._entries[-1][1]:
            self._add(bytearray(), 0)

    def clear(self) -> None:
        """Forget what waits."""
        self._entries.clear()
        self._seconds, self._bytes = 0.0, 0

    async def get(self) -> tuple[bytes, int]:
        """The next piece, at most half a second, and its rate; an empty one is an end."""
        while not self._entries:
            self._news.clear()
            await self._news.wait()
        buffer, rate = self._entries[0]
        piece = bytes(buffer[: 2 * round(rate * _PIECE_SECONDS)])
        del buffer[: len(piece)]
        if not buffer:
            self._entries.popleft()
        if piece:
            self._bytes -= len(piece)
            # Exactly zero when nothing waits, whatever the rounding was.
            self._seconds = self._seconds - len(piece) / 2 / rate if self._bytes else 0.0
        return piece, rate

    def _add(self, buffer: bytearray, rate: int) -> None:
        if len(self._entries) >= WAITING_ENTRIES:
            raise TooMuchAudioError(f"{WAITING_ENTRIES} utterances wait to be spoken; send the next when one has ended")
        self._entries.append((buffer, rate))
        self._news.set()
