"""Long work of a server that is asked for now and done later, one after the other, with progress."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Cancelled, MuseTalkError
from .errors import LiveError

logger = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]
_REMEMBERED = 64


class TooManyJobsError(LiveError):
    """Too many jobs wait already."""


@dataclass(eq=False)
class BackgroundJob:
    """One piece of work. All but ``cancel`` is for reading.

    kind, subject: what is done to what. stage, done, total: how far it is; total 0 is not known. error: why it failed.
    """

    kind: str
    subject: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str | None = None
    _cancel: threading.Event = field(default_factory=threading.Event, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def cancel(self) -> None:
        """Ask it to stop; it does so at its next step."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended. Returns whether it has."""
        return self._ended.wait(timeout)

    def at(self, stage: str) -> Callable[[int, int], None]:
        """The progress function of a stage: ``progress(done, total)``. Raises Cancelled once the job is to stop."""

        def progress(done: int, total: int) -> None:
            self.stage, self.done, self.total = stage, done, total
            if self._cancel.is_set():
                raise Cancelled(f"{self.kind} of {self.subject} was cancelled")

        progress(0, 0)
        return progress


class JobRunner:
    """Runs jobs one at a time in a thread that lives while there are any. The last 64 are remembered."""

    def __init__(self, waiting: int) -> None:
        """waiting: how many jobs may wait or run at once."""
        self._waiting = waiting
        self._jobs: OrderedDict[str, BackgroundJob] = OrderedDict()
        self._queue: queue.SimpleQueue[tuple[BackgroundJob, Callable[[BackgroundJob], None]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, job: BackgroundJob, work: Callable[[BackgroundJob], None]) -> BackgroundJob:
        """Queue a job; ``work(job)`` does it. Raises TooManyJobsError, or LiveError after :meth:`close`."""
        with self._lock:
            if self._closed:
                raise LiveError("the server is shutting down")
            if len(self._active()) >= self._waiting:
                raise TooManyJobsError(f"{self._waiting} jobs are waiting already; try again when one is done")
            self._jobs[job.id] = job
            ended = [id for id, job in self._jobs.items() if job._ended.is_set()]
            for id in ended[: max(0, len(self._jobs) - _REMEMBERED)]:
                del self._jobs[id]
            self._queue.put((job, work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="musetalk-live-jobs", daemon=True)
                self._thread.start()
        return job

    def get(self, id: str) -> BackgroundJob | None:
        with self._lock:
            return self._jobs.get(id)

    def active(self, subject: str) -> BackgroundJob | None:
        """The first job on a subject that has not ended."""
        with self._lock:
            return next((job for job in self._active() if job.subject == subject), None)

    def close(self) -> None:
        """Cancel all jobs and wait until they have stopped."""
        with self._lock:
            self._closed = True
            thread = self._thread
            for job in self._active():
                job.cancel()
        if thread is not None:
            thread.join()

    def _active(self) -> list[BackgroundJob]:
        return [job for job in self._jobs.values() if not job._ended.is_set()]

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._queue.empty():
                    self._thread = None
                    return
            job, work = self._queue.get()
            _do(job, work)


def _do(job: BackgroundJob, work: Callable[[BackgroundJob], None]) -> None:
    job.state = "running"
    try:
        work(job)
        job.state = "done"
    except Cancelled:
        job.state = "cancelled"
    except MuseTalkError as error:
        job.state, job.error = "failed", str(error)
    except Exception as error:
        logger.exception("%s of %s failed", job.kind, job.subject)
        job.state, job.error = "failed", f"{job.kind} failed ({type(error).__name__}); the server's log says more"
    finally:
        job._ended.set()
