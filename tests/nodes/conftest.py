"""The pack loaded as ComfyUI loads it: by path, under a name of its own, here without ComfyUI."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "musetalk_pack"


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def part(pack: ModuleType) -> Callable[[str], ModuleType]:
    """Modules of the pack by their names below it, such as ``nodes.pictures``."""
    return lambda name: importlib.import_module(f"{NAME}.{name}")
