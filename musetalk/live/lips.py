"""From the sound of a session to its mouths: windows ahead of time, frames asked from the worker, answers kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from ..errors import MuseTalkError
from .generator import EncodeJob, EncodeResult, FrameJob, FrameResult, Job
from .resampling import StreamResampler
from .segment import Segment, SpokenFrame
from .speech import LEAD_FRAMES, Speech
from .stage import Stage
from .streaming import EncoderInput, FeatureFrame, FeatureStream

logger = logging.getLogger(__name__)

HORIZON_FRAMES = 16
_FEED_S = Fraction(2, 25)
# A broken encoder is asked three times at once, then some five times a second for ten seconds.
_TRIES_AT_ONCE, _TRIES = 3, 53
_PAUSE_S = 0.2

T = TypeVar("T")
R = TypeVar("R")


class Engine(Protocol):
    """The part of a worker that a session uses."""

    def register(self, session_id: str) -> None: ...

    def unregister(self, session_id: str) -> None: ...

    def submit(self, jobs: list[Job]) -> None: ...


@dataclass
class LipCounts:
    """frames: pictures made. lost: played without the picture, which came too late or not at all. failed: answered
    with an error."""

    frames: int = 0
    lost: int = 0
    failed: int = 0


@dataclass(eq=False)
class _Feeding:
    """A segment on its way through resampler and features, one at a time."""

    segment: Segment
    resampler: StreamResampler
    features: FeatureStream

    def advance(self, samples: np.ndarray, last: bool, wanted: int) -> EncoderInput | None:
        self.features.feed(self.resampler.push(samples))
        if last:
            self.features.feed(self.resampler.flush())
            self.features.finish()
        return self.next(wanted)

    def next(self, wanted: int) -> EncoderInput | None:
        """What the encoder has to see for the frames from ``wanted`` on."""
        self.features.skip_to(wanted)
        return self.features.prepare()


class Lips:
    """Works ``HORIZON_FRAMES`` ahead of what is played, no further: a burst of sound waits as sound.

    All methods belong to the event loop; heavy steps run in ``executor``. Whatever fails costs pictures, never sound.
    """

    def __init__(
        self,
        session_id: str,
        speech: Speech,
        stage: Stage,
        engine: Engine,
        make_features: Callable[[], FeatureStream],
        fps: Fraction,
        executor: Executor | None,
    ) -> None:
        self.counts = LipCounts()
        self.generation = 0
        self._session_id = session_id
        self._speech = speech
        self._stage = stage
        self._engine = engine
        self._make_features = make_features
        self._fps = fps
        self._frame_s = float(1 / fps)
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._feeding: _Feeding | None = None
        self._encoding: asyncio.Future[torch.Tensor | MuseTalkError | None] | None = None
        self._next_due = 0.0
        # How many frames were played while the latest sound was encoded.
        self._encoding_frames = 0

    async def run(self) -> None:
        """Feed segments as sound comes and room is made, until cancelled."""
        while True:
            segment = self._segment_to_feed()
            if segment is None:
                self._news.clear()
                await self._news.wait()
                continue
            try:
                await self._feed(segment)
            except Exception:
                if not segment.dropped:
                    logger.exception("session %s: segment %d goes on without lips", self._session_id, segment.number)
                segment.give_up_lips()

    def wake(self) -> None:
        """There is sound to feed, or room ahead."""
        self._news.set()

    def forget(self) -> None:
        """The segments were dropped: stop what is under way for them."""
        self.generation += 1
        self._feeding = None
        if self._encoding is not None and not self._encoding.done():
            self._encoding.set_result(None)

    def redraw(self) -> None:
        """Another avatar: all frames that are not played yet have to be drawn again, and at once."""
        self.generation += 1
        for segment in self._speech.segments:
            for frame in segment.frames.values():
                frame.asked = frame.answered = False
                frame.picture = None
        self.ask(self._next_due)

    def ask(self, next_due: float) -> None:
        """Ask the worker for frames within the horizon. next_due: when the next frame of the session is due."""
        self._next_due = next_due
        jobs: list[Job] = []
        ahead = 0
        for segment in self._speech.segments:
            ahead += 0 if segment.playing else LEAD_FRAMES
            for index, frame in segment.frames.items():
                if not frame.asked:
                    frame.asked = True
                    jobs.append(self._job(segment, frame, next_due + (ahead + index - segment.next) * self._frame_s))
            ahead += segment.frames_left(self._fps)
        if jobs:
            self._submit(jobs)

    def awaited_position(self) -> int | None:
        """The position of the footage that the next spoken frame is drawn on."""
        for segment in self._speech.segments:
            for frame in segment.frames.values():
                return frame.position
        return None

    def _segment_to_feed(self) -> Segment | None:
        ahead = 0
        for segment in self._speech.segments:
            if not segment.complete:
                ahead += max(0, segment.known - segment.next)
                has_more = segment.ended or segment.sound.fed < segment.sound.heard
                return segment if has_more and ahead < HORIZON_FRAMES else None
            ahead += segment.frames_left(self._fps)
        return None

    async def _feed(self, segment: Segment) -> None:
        if self._feeding is None or self._feeding.segment is not segment:
            self._feeding = _Feeding(segment, StreamResampler(segment.rate), self._make_features())
        feeding = self._feeding
        samples = segment.sound.feed(int(_FEED_S * segment.rate))
        last = segment.fully_fed
        waiting = await self._aside(feeding.advance, samples, last, self._first_wanted(segment))
        while waiting is not None and not segment.dropped:
            states = await self._encode(waiting, segment)
            if segment.dropped:
                return
            # At once: it takes less than handing it to another thread would.
            for made in feeding.features.accept(waiting, states):
                self._take_window(segment, made)
            self.ask(self._next_due)
            waiting = await self._aside(feeding.next, self._first_wanted(segment))
        segment.complete = last

    def _first_wanted(self, segment: Segment) -> int:
        """The first frame that can be in time where lips are slower than the sound, 0 where they are not."""
        if not segment.playing or segment.known > segment.next:
            return 0
        return segment.next + self._encoding_frames + LEAD_FRAMES

    def _take_window(self, segment: Segment, made: FeatureFrame) -> None:
        if segment.dropped:
            return
        position: int | None = None
        if made.index >= segment.next:
            position = self._stage.reserve(self._frames_before(segment) + made.index - segment.next)
        segment.add_window(made.index, made.window, position)

    def _frames_before(self, segment: Segment) -> int:
        """Frames that are played before the next one of a segment."""
        earlier = takewhile(lambda other: other is not segment, self._speech.segments)
        return sum(other.frames_left(self._fps) for other in earlier)

    async def _encode(self, waiting: EncoderInput, segment: Segment) -> torch.Tensor:
        for attempt in range(1, _TRIES + 1):
            self._encoding = self._loop.create_future()
            done = self._handing_over(self._settle, self._encoding)
            job = EncodeJob(
                waiting.mel,
                self._next_due,
                self._session_id,
                self.generation,
                lambda: segment.dropped,
                done,
                waiting.thinned,
            )
            begun = segment.next
            self._submit([job])
            answer = await self._encoding
            self._encoding_frames = segment.next - begun
            if isinstance(answer, torch.Tensor):
                # A sound in play waits for them only once they have caught up with it.
                segment.blind = segment.blind and segment.playing
                return answer
            if segment.dropped:
                break
            if attempt <= _TRIES_AT_ONCE:
                error = answer or "no answer"
                logger.warning("session %s: encoding failed, try %d: %s", self._session_id, attempt, error)
            if attempt >= _TRIES_AT_ONCE:
                segment.blind = True
                await self._pause(_PAUSE_S, segment)
        raise MuseTalkError(f"the segment was dropped, or the audio encoder failed {_TRIES} times")

    async def _pause(self, seconds: float, segment: Segment) -> None:
        """Until so much was played, or the segment is dropped."""
        until = self._next_due + seconds
        while self._next_due < until and not segment.dropped:
            self._news.clear()
            await self._news.wait()

    @staticmethod
    def _settle(future: asyncio.Future[torch.Tensor | MuseTalkError | None], result: EncodeResult) -> None:
        if not future.done():
            # Not the result: it knows its job, whose callback knows the future, and a ring of a megabyte would wait
            # for Python's collector, which in a process with PyTorch hardly ever comes.
            future.set_result(result.error if result.states is None else result.states)

    def _job(self, segment: Segment, frame: SpokenFrame, deadline: float) -> FrameJob:
        generation = self.generation
        return FrameJob(
            self._stage.avatar,
            self._stage.source(frame.position),
            frame.window,
            deadline,
            self._session_id,
            generation,
            lambda: segment.dropped or self.generation != generation,
            self._handing_over(self._answer, frame),
        )

    def _answer(self, frame: SpokenFrame, result: FrameResult) -> None:
        if result.job.generation != self.generation:
            return
        if result.dropped:
            # Speech began later than expected, or the worker is behind: what is still to be played is asked again.
            frame.asked = False
            return
        frame.answered, frame.picture = True, result.frame
        if result.error is None:
            self.counts.frames += 1
        else:
            self.counts.failed += 1
            logger.warning("session %s: a frame failed: %s", self._session_id, result.error)

    def _submit(self, jobs: list[Job]) -> None:
        try:
            self._engine.submit(jobs)
        except MuseTalkError as error:
            for job in jobs:
                if isinstance(job, FrameJob):
                    job.done(FrameResult(job, error=error))
                else:
                    job.done(EncodeResult(job, error=error))

    def _handing_over(self, take: Callable[[T, R], None], first: T) -> Callable[[R], None]:
        """A callback for the worker's thread that has ``take(first, result)`` called in the event loop's."""

        def done(result: R) -> None:
            # The loop may have ended before the worker was through.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(take, first, result)

        return done

    async def _aside(self, work: Callable[..., R], *args: Any) -> R:
        return await self._loop.run_in_executor(self._executor, work, *args)
