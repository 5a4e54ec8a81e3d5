"""Log lines for machines: one JSON object each, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from .security import redact

_EXTRA = ("method", "path", "status", "seconds")


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
        return redact(json.dumps(line, ensure_ascii=False, default=str), self._hidden)
