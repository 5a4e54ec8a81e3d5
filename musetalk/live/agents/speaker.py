"""Hands an agent's speech to the avatar, and knows how much of it was heard when it is cut off.

The agent may send a minute of speech at once, and the avatar takes it as it plays. The agent's events must not wait for
that, or nobody could interrupt: so a task of its own waits at the sink, behind a bounded queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass

from ...errors import MuseTalkError
from ..timeline import Played
from .base import AgentError, AvatarSink

BYTES_PER_SAMPLE = 2
_REMEMBERED = 64


@dataclass(frozen=True)
class Cut:
    """An utterance that was not heard to its end: only its first ``heard_ms`` were, rounded down."""

    utterance: Hashable
    heard_ms: int


@dataclass
class _Utterance:
    key: Hashable
    rate: int
    received: int = 0
    odd_byte: bytes = b""
    finished: bool = False
    segment: int | None = None

    @property
    def length_ms(self) -> int:
        return self.received * 1000 // (BYTES_PER_SAMPLE * self.rate)

    def heard_ms(self, played: Played) -> int:
        if self.segment is None or self.segment > played.segment:
            return 0
        return self.length_ms if self.segment < played.segment else min(played.played_ms, self.length_ms)


class Speaker:
    """Speech on its way to one sink, utterance by utterance: each is one segment of the sink.

    rate: Hz of the speech. limit_s: how much may wait here; ``say`` raises AgentError beyond it.
    on_error: told what the sink refuses; the utterance it concerns is dropped and the next one is tried.
    """

    def __init__(
        self, sink: AvatarSink, rate: int, on_error: Callable[[MuseTalkError], None], limit_s: float = 600.0
    ) -> None:
        self.rate = rate
        self._sink = sink
        self._on_error = on_error
        self._limit_s = limit_s
        self._waiting: deque[tuple[_Utterance, bytes | None]] = deque()
        self._waiting_s = 0.0
        self._filled = asyncio.Event()
        self._known: deque[_Utterance] = deque(maxlen=_REMEMBERED)
        self._task: asyncio.Task[None] | None = None

    def say(self, key: Hashable, pcm: bytes) -> None:
        """Append to the utterance ``key``; another one that was being said is finished thereby.

        Signed 16 bit mono; a sample may be divided between two calls. Raises AgentError when too much is waiting.
        """
        utterance = self._utterance(key)
        pcm = utterance.odd_byte + pcm
        whole = len(pcm) - len(pcm) % BYTES_PER_SAMPLE
        seconds = whole / (BYTES_PER_SAMPLE * utterance.rate)
        if self._waiting_s + seconds > self._limit_s:
            raise AgentError(f"the agent sent more than {self._limit_s:g} s of speech ahead; the rest of it is dropped")
        utterance.odd_byte = pcm[whole:]
        if whole:
            utterance.received += whole
            self._waiting_s += seconds
            self._put(utterance, pcm[:whole])

    def finish(self, key: Hashable) -> None:
        """The utterance ``key`` is complete. Does nothing for one that is not being said."""
        if self._known and self._known[-1].key == key and not self._known[-1].finished:
            self._known[-1].finished = True
            self._put(self._known[-1], None)

    def finish_all(self) -> None:
        """Whatever is being said ends with what has arrived of it."""
        if self._known:
            self.finish(self._known[-1].key)

    async def stop(self) -> list[Cut]:
        """Silence, now. Returns what was cut off, in the order it was said; nothing for speech heard to its end."""
        await self._halt()
        self._waiting.clear()
        self._waiting_s = 0.0
        played = self._sink.clear()
        utterances = list(self._known)
        self._known.clear()
        cuts = []
        for utterance in utterances:
            heard = utterance.heard_ms(played)
            if heard < utterance.length_ms or not utterance.finished:
                cuts.append(Cut(utterance.key, heard))
        return cuts

    async def close(self) -> None:
        """Hand over no more. What the sink has it keeps."""
        await self._halt()
        self._waiting.clear()

    def _utterance(self, key: Hashable) -> _Utterance:
        current = self._known[-1] if self._known else None
        if current is None or current.key != key or current.finished:
            self.finish_all()
            current = _Utterance(key, self.rate)
            self._known.append(current)
        return current

    def _put(self, utterance: _Utterance, pcm: bytes | None) -> None:
        self._waiting.append((utterance, pcm))
        self._filled.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._hand_over(), name="agent-speaker")

    async def _hand_over(self) -> None:
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            utterance, pcm = self._waiting.popleft()
            try:
                if pcm is None:
                    self._sink.end_of_segment()
                else:
                    self._waiting_s -= len(pcm) / (BYTES_PER_SAMPLE * utterance.rate)
                    segment = await self._sink.push_pcm(pcm, utterance.rate)
                    utterance.segment = segment if segment >= 0 else utterance.segment
            except MuseTalkError as error:
                self._drop(utterance)
                self._on_error(error)

    def _drop(self, utterance: _Utterance) -> None:
        kept = [(u, pcm) for u, pcm in self._waiting if u is not utterance or pcm is None]
        self._waiting = deque(kept)
        self._waiting_s = sum(len(pcm or b"") / (BYTES_PER_SAMPLE * u.rate) for u, pcm in kept)

    async def _halt(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
