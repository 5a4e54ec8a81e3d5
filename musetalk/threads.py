"""Two small bounded hand-overs between threads; errors cross them with their cause, and nothing hangs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1


class _Worker:
    """A daemon thread that can be asked to stop and keeps the exception it died of."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # handed to the thread that waits for this one
            self.error = error

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join()

    def join(self) -> None:
        self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()


class Prefetch(Generic[T]):
    """Runs an iterable in a thread, at most ``depth`` items ahead.

    Iterate over it inside ``with``; leaving the block stops the thread within one item. What the iterable raises is
    raised where it is iterated.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[T] = queue.Queue(maxsize=depth)
        self._worker = _Worker("musetalk-read", self._fill)

    def _fill(self) -> None:
        for item in self._items:
            if not _put(self._queue, item, lambda: self._worker.stopping.is_set()):
                return

    def __enter__(self) -> Prefetch[T]:
        self._worker.start()
        return self

    def __iter__(self) -> Iterator[T]:
        while True:
            # Looked at before the queue: a worker that was gone by then can have left nothing behind.
            finished = not self._worker.alive
            try:
                yield self._queue.get(timeout=0 if finished else _POLL_SECONDS)
            except queue.Empty:
                if finished:
                    break
        if self._worker.error is not None:
            raise self._worker.error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()


class Sink(Generic[T]):
    """Hands items to a function in a thread, at most ``depth`` waiting.

    Leaving the ``with`` block waits until all are consumed; after an error or an interrupt the rest are dropped. What
    the function raises is raised by the next :meth:`put`, or at the end.
    """

    def __init__(self, consume: Callable[[T], None], depth: int) -> None:
        self._consume = consume
        self._queue: queue.Queue[T] = queue.Queue(maxsize=depth)
        self._complete = threading.Event()
        self._worker = _Worker("musetalk-write", self._drain)

    def _drain(self) -> None:
        while not self._worker.stopping.is_set():
            complete = self._complete.is_set()
            try:
                item = self._queue.get(timeout=0 if complete else _POLL_SECONDS)
            except queue.Empty:
                if complete:
                    return
                continue
            self._consume(item)

    def put(self, item: T) -> None:
        if not _put(self._queue, item, lambda: not self._worker.alive):
            assert self._worker.error is not None
            raise self._worker.error

    def __enter__(self) -> Sink[T]:
        self._worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._worker.stop()
            return
        self._complete.set()
        try:
            self._worker.join()
        except BaseException:  # an interrupt while waiting must not leave the thread writing
            self._worker.stop()
            raise
        if self._worker.error is not None:
            raise self._worker.error


def _put(items: queue.Queue[T], item: T, give_up: Callable[[], bool]) -> bool:
    """Put, unless ``give_up()`` turns true first."""
    while not give_up():
        try:
            items.put(item, timeout=_POLL_SECONDS)
            return True
        except queue.Full:
            continue
    return False
