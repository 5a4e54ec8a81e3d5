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
from .floor import floor_of
from .one_task import OneTask

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

    Of several speakers of a sink one speaks at a time, to the end of its utterance; silence is for all of them.

    rate: Hz of the speech. limit_s: how much may wait here; ``say`` raises AgentError beyond it.
    on_error: told what the sink refuses; the utterance it concerns is dropped and the next one is tried.
    on_cut: called when somebody else ended all speech, with what was cut off as ``stop`` returns it, maybe nothing.
    """

    def __init__(
        self,
        sink: AvatarSink,
        rate: int,
        on_error: Callable[[MuseTalkError], None],
        on_cut: Callable[[list[Cut]], None] | None = None,
        *,
        limit_s: float = 600.0,
    ) -> None:
        self.rate = rate
        self._sink = sink
        self._on_error = on_error
        self._on_cut = on_cut
        self._limit_s = limit_s
        self._waiting: deque[tuple[_Utterance, bytes | None]] = deque()
        self._waiting_s = 0.0
        self._filled = asyncio.Event()
        self._known: deque[_Utterance] = deque(maxlen=_REMEMBERED)
        self._cut_key: Hashable = None
        self._work = OneTask("agent-speaker")
        self._floor = floor_of(sink)
        self._floor.speakers.add(self)
        self._has_floor = False

    def say(self, key: Hashable, pcm: bytes) -> None:
        """Append to the utterance ``key``; another one that was being said is finished thereby.

        Signed 16 bit mono; a sample may be divided between two calls. What comes late for an utterance that was cut off
        is dropped. Raises AgentError when too much is waiting.
        """
        if key == self._cut_key:
            return
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

    def stop(self) -> list[Cut]:
        """Silence before it returns, whoever speaks through the sink; ``on_cut`` tells the others.

        Returns what was cut off of this speaker, in the order it was said; nothing for speech heard to its end.
        """
        others = [speaker for speaker in self._floor.speakers if speaker is not self]
        for speaker in (self, *others):
            speaker._halt()
        played = self._sink.clear()
        cuts = self._forget(played)
        for speaker in others:
            speaker._tell_cut(speaker._forget(played))
        return cuts

    async def close(self) -> None:
        """Hand over no more. What the sink has it keeps."""
        if self._has_floor:
            with suppress(MuseTalkError):
                self._sink.end_of_segment()
        self._halt()
        self._waiting.clear()
        self._waiting_s = 0.0
        self._floor.speakers.discard(self)
        await self._work.close()

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
        if not self._work.exists:
            self._work.begin(self._hand_over())

    async def _hand_over(self) -> None:
        while self._work.is_caller:  # until a sink that was cleared has made it halt itself
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            utterance, pcm = self._waiting.popleft()
            try:
                if pcm is None:
                    self._end_utterance()
                else:
                    await self._push(utterance, pcm)
            except MuseTalkError as error:
                self._drop(utterance)
                self._on_error(error)

    async def _push(self, utterance: _Utterance, pcm: bytes) -> None:
        self._waiting_s -= len(pcm) / (BYTES_PER_SAMPLE * utterance.rate)
        if not self._has_floor:
            await self._floor.turn.acquire()
            self._has_floor = True
        segment = await self._sink.push_pcm(pcm, utterance.rate)
        if segment < 0 or utterance.segment not in (None, segment):
            # Somebody cleared the sink itself, and wants no more of this. Clearing again tells how much was heard.
            self._tell_cut(self.stop())
        else:
            utterance.segment = segment

    def _end_utterance(self) -> None:
        if self._has_floor:  # else nothing of it got to the sink, and the open segment is another's
            self._give_floor()
            self._sink.end_of_segment()

    def _drop(self, utterance: _Utterance) -> None:
        kept = [(u, pcm) for u, pcm in self._waiting if u is not utterance or pcm is None]
        self._waiting = deque(kept)
        self._waiting_s = sum(len(pcm or b"") / (BYTES_PER_SAMPLE * u.rate) for u, pcm in kept)

    def _halt(self) -> None:
        """End the task. It takes nothing more to the sink: the end reaches it where it waits."""
        self._work.halt()
        self._give_floor()

    def _give_floor(self) -> None:
        if self._has_floor:
            self._has_floor = False
            self._floor.turn.release()

    def _forget(self, played: Played) -> list[Cut]:
        """Drop all that was being said; what of it was cut off."""
        self._waiting.clear()
        self._waiting_s = 0.0
        utterances = list(self._known)
        self._known.clear()
        if utterances and not utterances[-1].finished:
            self._cut_key = utterances[-1].key
        cuts = []
        for utterance in utterances:
            heard = utterance.heard_ms(played)
            if heard < utterance.length_ms or not utterance.finished:
                cuts.append(Cut(utterance.key, heard))
        return cuts

    def _tell_cut(self, cuts: list[Cut]) -> None:
        if self._on_cut is not None:
            self._on_cut(cuts)
