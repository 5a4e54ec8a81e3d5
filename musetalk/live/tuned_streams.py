"""The feature streams of a server's sessions, as its machine can afford them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import Cancelled
from .streaming import FeatureStream
from .tuning import Tuning, tune

if TYPE_CHECKING:
    import torch

    from ..models import Models

logger = logging.getLogger(__name__)


class TunedStreams:
    """Makes feature streams, and tries the networks for it: at once where they are there.

    Where a function brings them they are tried beside the first session, in a thread that nobody waits for. Until that
    has ended, and where it fails, streams have the hops of a machine that is fast enough.
    """

    def __init__(
        self,
        models: Models | Callable[[], Models],
        fps: Fraction,
        sessions: Callable[[], int],
        device: torch.device | None = None,
    ) -> None:
        """models, device: as :class:`ModelGenerator` takes them. sessions: how many are open."""
        self._fps = fps
        self._sessions = sessions
        self._lock = threading.Lock()
        self._trial: threading.Thread | None = None
        self._tuning: Tuning | None = None
        self._bring: Callable[[], Models] | None = None
        self._models: Models | None = None
        self._thinned = device is not None and device.type == "cpu"
        if callable(models):
            self._bring = models
        else:
            self._models, self._tuning = models, tune(models)

    def make(self) -> FeatureStream:
        """The stream of one utterance. Where a function brings the networks, it is for their worker alone."""
        tuning = self._tuning
        if tuning is None:
            return FeatureStream(None, self._fps, thinned=self._thinned)
        return tuning.stream(self._models, self._fps, self._sessions())

    def session_begins(self) -> None:
        """Have the networks tried, if that has not been done. Any thread may call."""
        with self._lock:
            if self._bring is None or self._tuning is not None or self._trial is not None:
                return
            trial = threading.Thread(target=self._try, args=[self._bring], name="musetalk-live-trial", daemon=True)
            self._trial = trial
            try:
                trial.start()
            except RuntimeError:  # no more threads; the next session may try
                self._trial = None
                raise

    def _try(self, bring: Callable[[], Models]) -> None:
        try:
            self._tuning = tune(bring())
        except Cancelled:  # the server ends
            pass
        except Exception as error:  # sessions go on as they are; the next one has it tried again
            logger.warning("what this machine can do was not found out: %s", error)
        finally:
            self._trial = None
