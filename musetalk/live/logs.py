"""Log lines without secrets: plain ones, and for machines one JSON object each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from .security import redact

PLAIN = "%(asctime)s %(levelname)s %(message)s"
_EXTRA = ("method", "path", "status", "seconds")


class PlainLines(logging.Formatter):
    """Time, level and message; ``hidden`` texts are struck out wherever they appear."""

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        super().__init__(PLAIN)
        self._hidden = tuple(hidden)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._hidden)


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "message", ...}``; ``hidden`` texts are struck out wherever they appear."""

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        super().__init__()
        self._hidden = tuple(hidden)

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _EXTRA if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # Before they are quoted, which hides secrets in JSON from redact, and which redact would break.
        clean = {
            name: value if isinstance(value, (int, float)) else redact(str(value), self._hidden)
            for name, value in line.items()
        }
        return json.dumps(clean, ensure_ascii=False)
