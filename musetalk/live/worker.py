"""What computes for all live sessions: one thread on a GPU, on a CPU one for each core."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from math import inf
from types import TracebackType
from typing import TypeVar

import torch

from ..errors import MuseTalkError
from .cores import start_threads
from .errors import LiveError, SessionLimitError, UnknownSessionError
from .generator import BATCH_SIZES, EncodeJob, EncodeResult, FrameJob, FrameResult, Generator, Job
from .scheduling import BatchLimit, Lanes, Pace, too_late

logger = logging.getLogger(__name__)

PENDING_LIMIT = 256
_BATCH_SECONDS = 0.1
_SICK_AFTER = 3
_SICK_SECONDS = 5.0

_J = TypeVar("_J", FrameJob, EncodeJob)


class WorkerBusyError(LiveError):
    """A session has more work waiting than the worker keeps for one."""


class WorkerClosedError(LiveError):
    """The worker was closed."""


class Worker:
    """Computes the jobs of all sessions, in batches across sessions, in as many threads as its generator has streams.

    Every job that :meth:`submit` took is answered exactly once, mostly in one of these threads, whatever happens: with
    its result, with the error its batch met, or as dropped (cancelled, too late, session unregistered, worker closed).
    Dropped jobs are never computed. While all frames can be in time the earliest deadline goes first; when they
    cannot, sessions take turns. A batch that fails is tried once more by session, so that one's bad job does not fail
    the others; one too large for the device is halved until it fits, and batches stay smaller for a while.

    frames, encodes: computed. dropped, failed: jobs answered so. late: frames done after their deadline. batches,
    seconds: run, and the time they took. out_of_memory: how often the device was full.
    """

    def __init__(self, generator: Generator, capacity: int, *, pending: int = PENDING_LIMIT) -> None:
        """capacity: sessions at once. pending: jobs that may wait, per session."""
        self.capacity = capacity
        self.frames = self.encodes = self.dropped = self.failed = self.late = self.batches = self.out_of_memory = 0
        self.seconds = 0.0
        self._generator = generator
        self._pending = pending
        self._failures = 0
        self._worked_at = -inf
        self._lanes = Lanes()
        self._frame_pace, self._encode_pace = Pace(), Pace()
        self._frame_limit, self._encode_limit = BatchLimit(generator.max_batch), BatchLimit(generator.max_batch)
        # Seconds of encoding since frames were last computed.
        self._encoded_s = 0.0
        self._discarded: list[Job] = []
        self._closing = False
        # Holds all of the above; never while something is computed or somebody is asked.
        self._wake = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to compute."""
        self._threads = start_threads(
            self._generator.streams, self._run, "musetalk-live", one_core=self._generator.streams > 1
        )

    def close(self) -> None:
        """Finish the batches that are being computed, drop the rest, end the threads. Not from a job's callback."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._drop(self._taken_out())

    def __enter__(self) -> Worker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def sessions(self) -> int:
        """Registered, without those in the background."""
        with self._wake:
            return len(self._lanes.sessions())

    @property
    def waiting(self) -> int:
        """Jobs that are not computed yet."""
        with self._wake:
            return sum(1 for _ in self._lanes.jobs())

    @property
    def healthy(self) -> bool:
        """Whether it computes: it runs, and its latest batches did not all fail, those of the last seconds at least."""
        alive = bool(self._threads) and all(thread.is_alive() for thread in self._threads)
        is_sick = self._failures >= _SICK_AFTER and time.monotonic() - self._worked_at > _SICK_SECONDS
        return alive and not self._closing and not is_sick

    def register(self, session_id: str, *, background: bool = False) -> None:
        """Let a session submit jobs. background: it is no viewer's, and takes none of the capacity.

        Raises SessionLimitError when all places are taken, LiveError for an id that has one already.
        """
        with self._wake:
            self._require_open()
            if session_id in self._lanes:
                raise LiveError(f"session {session_id} is registered already")
            if not background and len(self._lanes.sessions()) >= self.capacity:
                raise SessionLimitError(f"all {self.capacity} sessions are taken; try again when one has ended")
            self._lanes.open(session_id, background=background)

    def unregister(self, session_id: str) -> None:
        """Give a session's place back and drop its jobs. An unknown session is no mistake here."""
        with self._wake:
            self._discarded += self._lanes.close(session_id)
            self._wake.notify_all()

    def submit(self, jobs: Sequence[FrameJob | EncodeJob]) -> None:
        """Queue jobs, all or none. Any thread may call.

        Raises UnknownSessionError for a session that is not registered, WorkerBusyError where too many jobs wait,
        WorkerClosedError after :meth:`close`.
        """
        with self._wake:
            self._require_open()
            for session in {job.session for job in jobs}:
                if session not in self._lanes:
                    raise UnknownSessionError(f"session {session} is not registered; register it before it submits")
                more = sum(job.session == session for job in jobs)
                if self._lanes.waiting(session) + more > self._pending:
                    raise WorkerBusyError(
                        f"{self._lanes.waiting(session)} jobs of session {session} wait, {more} more exceed "
                        f"{self._pending}; submit what is played soon, and the rest later"
                    )
            for job in jobs:
                self._lanes.add(job)
            self._wake.notify(len(jobs))

    def _require_open(self) -> None:
        if self._closing:
            raise WorkerClosedError("the worker was closed")

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._discarded or self._lanes.has_work)
                if self._closing:
                    return
            try:
                self._step()
            except Exception as error:
                # Not of the networks, whose errors are answers: a mistake in here. It must not silence all sessions.
                logger.exception("the live worker made a mistake")
                self._fail(self._taken_out(), error)

    def _step(self) -> None:
        """Compute one batch."""
        self._sweep()
        encodes, frames = self._next()
        if encodes:
            try:
                seconds = self._compute(encodes, self._encode, self._encode_pace, self._encode_limit)
            finally:
                with self._wake:
                    self._lanes.encoded(encodes)
                    self._wake.notify_all()
            with self._wake:
                self._encoded_s += seconds
        elif frames:
            self._compute(frames, self._generate, self._frame_pace, self._frame_limit)
            with self._wake:
                self._encoded_s = 0.0

    def _sweep(self) -> None:
        """Drop what need not or cannot be computed any more."""
        with self._wake:
            gone, self._discarded = self._discarded, []
            waiting = list(self._lanes.jobs())
        # Outside the lock: these ask the sessions, which may be about to submit.
        out: set[Job] = {job for job in waiting if _is_cancelled(job)}
        frames = {job for job in waiting if isinstance(job, FrameJob)}.difference(out)
        with self._wake:
            out |= too_late(frames, self._frame_pace, time.monotonic())
            # Some may be taken, or discarded with their session, meanwhile.
            gone += self._lanes.discard(out)
        self._drop(gone)

    def _next(self) -> tuple[list[EncodeJob], list[FrameJob]]:
        """The next batch. Sound goes first, frames hang on it; but while frames wait, for no longer than one takes."""
        with self._wake:
            encodes: list[EncodeJob] = []
            is_turn = self._encoded_s <= self._frame_pace.seconds(1)
            if is_turn or not any(self._lanes.frames()):
                encodes = self._lanes.take_encodes(self._encode_batch())
            if encodes:
                return encodes, []
            return [], self._lanes.take_frames(
                self._frame_pace, time.monotonic(), self._frame_limit.now, _BATCH_SECONDS, self._generator.streams
            )

    def _encode_batch(self) -> int:
        sizes = [size for size in BATCH_SIZES if size <= self._encode_limit.now]
        return next((size for size in sizes if self._encode_pace.seconds(size) <= _BATCH_SECONDS), 1)

    def _compute(self, jobs: list[_J], run: Callable[[list[_J]], None], pace: Pace, limit: BatchLimit) -> float:
        """One batch, each job of which is answered. Returns the seconds it took."""
        begin = time.perf_counter()
        worked = self._attempt(jobs, run, pace, limit)
        seconds = time.perf_counter() - begin
        with self._wake:
            self._failures = 0 if worked else self._failures + 1
            self._worked_at = time.monotonic() if worked else self._worked_at
            self.batches += 1
            self.seconds += seconds
        return seconds

    def _attempt(self, jobs: list[_J], run: Callable[[list[_J]], None], pace: Pace, limit: BatchLimit) -> bool:
        """A batch; when it fails, the same in parts. Returns whether any of it worked."""
        begin = time.perf_counter()
        error = _error_of(run, jobs)
        if error is None:
            with self._wake:
                pace.note(len(jobs), time.perf_counter() - begin)
                limit.fitted()
            return True
        parts = [[job for job in jobs if job.session == session] for session in dict.fromkeys(j.session for j in jobs)]
        if isinstance(error, torch.OutOfMemoryError):
            with self._wake:
                self.out_of_memory += 1
                limit.was_full(len(jobs))
            _free_memory()
            half = (len(jobs) + 1) // 2
            parts = [part for part in (jobs[:half], jobs[half:]) if part]
        if len(parts) == 1:
            self._fail(jobs, error)
            return False
        worked = [self._attempt(part, run, pace, limit) for part in parts]
        return any(worked)

    def _generate(self, jobs: list[FrameJob]) -> None:
        frames = self._generator.generate(jobs)
        _check_count(frames, jobs)
        now = time.monotonic()
        with self._wake:
            self.frames += len(jobs)
            self.late += sum(job.deadline < now for job in jobs)
        for job, frame in zip(jobs, frames, strict=True):
            _answer(job, FrameResult(job, frame=frame))

    def _encode(self, jobs: list[EncodeJob]) -> None:
        states = self._generator.encode(jobs)
        _check_count(states, jobs)
        with self._wake:
            self.encodes += len(jobs)
        for job, state in zip(jobs, states, strict=True):
            _answer(job, EncodeResult(job, states=state))

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        logger.error("%d live jobs failed: %s", len(jobs), error)
        if not isinstance(error, MuseTalkError):
            error = LiveError(f"this could not be computed ({type(error).__name__}: {error})")
        with self._wake:
            self.failed += len(jobs)
        for job in jobs:
            _answer(job, _result(job, error))

    def _drop(self, jobs: Sequence[Job]) -> None:
        with self._wake:
            self.dropped += len(jobs)
        for job in jobs:
            _answer(job, _result(job, None))

    def _taken_out(self) -> list[Job]:
        """All jobs that wait."""
        with self._wake:
            gone, self._discarded = self._discarded, []
            return gone + self._lanes.discard(set(self._lanes.jobs()))


def _error_of(run: Callable[[list[_J]], None], jobs: list[_J]) -> Exception | None:
    try:
        run(jobs)
    except Exception as error:
        logger.warning("a live batch of %d failed", len(jobs), exc_info=True)
        # The tracebacks hold the failed batch's tensors, and the next attempt needs the room.
        link: BaseException | None = error
        while link is not None:
            link.__traceback__ = None
            link = link.__context__
        return error
    return None


def _free_memory() -> None:
    """What the failed batch held. A device that is out of order says so here once more, and that is no news."""
    try:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    except Exception:
        logger.warning("the memory of a failed batch could not be freed", exc_info=True)


def _result(job: Job, error: MuseTalkError | None) -> FrameResult | EncodeResult:
    return EncodeResult(job, error=error) if isinstance(job, EncodeJob) else FrameResult(job, error=error)


def _answer(job: Job, result: FrameResult | EncodeResult) -> None:
    """Call back. A session that is gone may refuse the answer; that is not the others' trouble."""
    try:
        job.done(result)  # type: ignore[arg-type]
    except Exception:
        logger.debug("session %s did not take its answer", job.session, exc_info=True)


def _is_cancelled(job: Job) -> bool:
    """A question that fails is as good as a session that has gone."""
    try:
        return job.cancelled()
    except Exception:
        logger.debug("session %s cannot say whether it still waits", job.session, exc_info=True)
        return True


def _check_count(answers: Sequence[object], jobs: Sequence[Job]) -> None:
    if len(answers) != len(jobs):
        raise LiveError(f"the networks gave {len(answers)} answers to {len(jobs)} jobs")
