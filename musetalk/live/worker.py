"""The one thread that computes for all live sessions."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

import torch

from ..errors import MuseTalkError
from .errors import LiveError, SessionLimitError, UnknownSessionError
from .generator import BATCH_SIZES, EncodeJob, EncodeResult, FrameJob, FrameResult, Generator, Job
from .scheduling import Lanes, Pace, too_late

logger = logging.getLogger(__name__)

PENDING_LIMIT = 256
_BATCH_SECONDS = 0.1
_SICK_AFTER = 3
_CLEAN_BATCHES = 200

_J = TypeVar("_J", FrameJob, EncodeJob)


class WorkerBusyError(LiveError):
    """A session has more work waiting than the worker keeps for one."""


class WorkerClosedError(LiveError):
    """The worker was closed."""


class Worker:
    """Computes the jobs of all sessions in one thread, in batches across sessions.

    Every job that :meth:`submit` took is answered exactly once, in the worker's thread, whatever happens: with its
    result, with the error its batch met, or as dropped (cancelled, too late, session unregistered, worker closed).
    Dropped jobs are never computed. While all frames can be in time the earliest deadline goes first; when they
    cannot, sessions take turns. A batch that fails is tried once more in parts, so that one session's bad job or a
    batch too large for the device does not fail the others; a device that ran out of memory gets smaller batches for a
    while.

    frames, encodes: computed. dropped, failed: jobs answered so. late: frames done after their deadline. batches,
    seconds: run, and the time they took. out_of_memory: how often the device was full.
    """

    def __init__(
        self, generator: Generator, capacity: int, *, max_batch: int = BATCH_SIZES[0], pending: int = PENDING_LIMIT
    ) -> None:
        """capacity: sessions at once. max_batch: frames at once. pending: jobs that may wait, per session."""
        self.capacity = capacity
        self.frames = self.encodes = self.dropped = self.failed = self.late = self.batches = self.out_of_memory = 0
        self.seconds = 0.0
        self._generator = generator
        self._pending = pending
        self._max_batch = self._batch = min(max_batch, BATCH_SIZES[0])
        self._clean = self._failures = 0
        self._lanes = Lanes()
        self._frame_pace, self._encode_pace = Pace(), Pace()
        # Seconds of encoding since frames were last computed.
        self._encoded_s = 0.0
        self._discarded: list[Job] = []
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="musetalk-live", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def close(self) -> None:
        """Finish the batch that is being computed, drop the rest, end the thread. Not from a job's callback."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._drop_all()

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
        """Whether it computes: it runs, and its latest batches did not all fail."""
        return self._thread.is_alive() and not self._closing and self._failures < _SICK_AFTER

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
            self._wake.notify()

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
            self._wake.notify()

    def _require_open(self) -> None:
        if self._closing:
            raise WorkerClosedError("the worker was closed")

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or self._discarded or self._lanes)
                if self._closing:
                    break
            self._sweep()
            encodes, frames = self._next()
            if encodes:
                self._encoded_s += self._compute(encodes, self._encode, self._encode_pace)
            if frames:
                self._compute(frames, self._generate, self._frame_pace)
                self._encoded_s = 0.0
        self._drop_all()
        self._generator.close()

    def _sweep(self) -> None:
        """Drop what need not or cannot be computed any more."""
        with self._wake:
            gone, self._discarded = self._discarded, []
            waiting = list(self._lanes.jobs())
        # Outside the lock: these ask the sessions, which may be about to submit.
        cancelled = [job for job in waiting if _is_cancelled(job)]
        frames = {job for job in waiting if isinstance(job, FrameJob)}.difference(cancelled)
        out = {*cancelled, *too_late(frames, self._frame_pace, time.monotonic())}
        with self._wake:
            # A session may have been unregistered meanwhile: its jobs are discarded then, and answered once.
            out.difference_update(self._discarded)
            self._lanes.discard(out)
        self._drop([*gone, *out])

    def _next(self) -> tuple[list[EncodeJob], list[FrameJob]]:
        """The next batch. Sound goes first, frames hang on it; but while frames wait, for no longer than one takes."""
        with self._wake:
            encodes: list[EncodeJob] = []
            is_turn = self._encoded_s <= self._frame_pace.seconds(1)
            if is_turn or not any(isinstance(job, FrameJob) for job in self._lanes.jobs()):
                encodes = self._lanes.take_encodes(self._encode_batch())
            if encodes:
                return encodes, []
            return [], self._lanes.take_frames(self._frame_pace, time.monotonic(), self._batch, _BATCH_SECONDS)

    def _encode_batch(self) -> int:
        return next((n for n in BATCH_SIZES if self._encode_pace.seconds(n) <= _BATCH_SECONDS), 1)

    def _compute(self, jobs: list[_J], run: Callable[[list[_J]], None], pace: Pace) -> float:
        """One batch; when it fails, once more in parts. Each job is answered. Returns the seconds it took."""
        begin = time.perf_counter()
        error = _attempt(run, jobs)
        if error is None:
            pace.note(len(jobs), time.perf_counter() - begin)
        parts = self._parts_after(error, jobs)
        errors = [error] if len(parts) == 1 else [_attempt(run, part) for part in parts]
        for part, failure in zip(parts, errors, strict=True):
            if failure is not None:
                self._fail(part, failure)
        self._failures = 0 if None in errors else self._failures + 1
        self.batches += 1
        seconds = time.perf_counter() - begin
        self.seconds += seconds
        return seconds

    def _parts_after(self, error: Exception | None, jobs: list[_J]) -> list[list[_J]]:
        if error is None:
            self._clean += 1
            if self._clean >= _CLEAN_BATCHES and self._batch < self._max_batch:
                self._batch, self._clean = self._batch * 2, 0
            return [jobs]
        if isinstance(error, torch.OutOfMemoryError):
            self.out_of_memory += 1
            self._clean, self._batch = 0, max(1, min(self._batch, len(jobs)) // 2)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            half = (len(jobs) + 1) // 2
            return [part for part in (jobs[:half], jobs[half:]) if part]
        return [[job for job in jobs if job.session == session] for session in dict.fromkeys(j.session for j in jobs)]

    def _generate(self, jobs: list[FrameJob]) -> None:
        frames = self._generator.generate(jobs)
        _check_count(frames, jobs)
        now = time.monotonic()
        self.frames += len(jobs)
        self.late += sum(job.deadline < now for job in jobs)
        for job, frame in zip(jobs, frames, strict=True):
            _answer(job, FrameResult(job, frame=frame))

    def _encode(self, jobs: list[EncodeJob]) -> None:
        states = self._generator.encode(jobs)
        _check_count(states, jobs)
        self.encodes += len(jobs)
        for job, state in zip(jobs, states, strict=True):
            _answer(job, EncodeResult(job, states=state))

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        logger.error("%d live jobs failed: %s", len(jobs), error)
        if not isinstance(error, MuseTalkError):
            error = LiveError(f"this could not be computed ({type(error).__name__}: {error})")
        self.failed += len(jobs)
        for job in jobs:
            _answer(job, _result(job, error))

    def _drop(self, jobs: Sequence[Job]) -> None:
        self.dropped += len(jobs)
        for job in jobs:
            _answer(job, _result(job, None))

    def _drop_all(self) -> None:
        with self._wake:
            rest = [
                *self._discarded,
                *(j for session in self._lanes.all_sessions() for j in self._lanes.close(session)),
            ]
            self._discarded = []
        self._drop(rest)


def _attempt(run: Callable[[list[_J]], None], jobs: list[_J]) -> Exception | None:
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
