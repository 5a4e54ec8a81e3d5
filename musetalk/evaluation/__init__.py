"""How good a lip-synced clip is: measures, reports and the strip under a video.

The public interface is ``__all__``; docs/evaluation.md says what the figures mean. Names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fid import measure_fid
    from .measure import evaluate
    from .page import write_report
    from .result import Evaluation
    from .sync_strip import strip

__all__ = ["Evaluation", "evaluate", "measure_fid", "strip", "write_report"]

_HOMES = {
    "Evaluation": "result",
    "evaluate": "measure",
    "measure_fid": "fid",
    "strip": "sync_strip",
    "write_report": "page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
