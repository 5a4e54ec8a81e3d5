"""Ctrl-C and SIGTERM as a wish: the step is finished, a checkpoint written, then the run ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A launcher of several processes passes on the Ctrl-C that the terminal has sent to all of them already.
_SAME_WISH = 3.0


class StopRequest:
    """As a context manager, takes the two signals; ``wanted`` is the first that came.

    Another one acts as usual, but for the first three seconds, in which it is taken for the same wish.
    Outside the main thread, where Python takes no signals, it changes nothing.
    """

    def __init__(self) -> None:
        self.wanted: int | None = None
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted is None:
            self.wanted, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > _SAME_WISH:
            self._give_back()
            signal.raise_signal(number)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}


def leave_signals_to_parent(worker: int) -> None:
    """A loader's ``worker_init_fn``: Ctrl-C reaches every process of the terminal, but only the trainer decides.

    It still needs batches to finish its step. A worker whose trainer is gone ends by itself: PyTorch's looks after its
    parent every few seconds.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
