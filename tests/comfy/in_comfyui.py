"""What the scripts share that run in ComfyUI's own Python: the pack as ComfyUI would import it, and how they report."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def part(name: str) -> ModuleType:
    """A module of the pack, under a package name that is not its own."""
    if "pack" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules["pack"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["pack"])
    return importlib.import_module(f"pack.{name}")


def report(*checks: Callable[[], None]) -> None:
    """Run the checks in turn and print JSON: of each, by its name, null or why it failed."""
    print(json.dumps({check.__name__: _outcome(check) for check in checks}))


def _outcome(check: Callable[[], None]) -> str | None:
    try:
        check()
    except Exception:
        return traceback.format_exc()
    return None
