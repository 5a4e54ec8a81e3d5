"""Fixtures of the live tests."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """tests/live/fakes.py"""
    return _helper("fakes")


@pytest.fixture(scope="session")
def stores() -> ModuleType:
    """tests/live/stores.py"""
    return _helper("stores")


def _helper(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"live_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def small_avatar(mesh_models, portrait_frames):
    """Four frames, the third without a face."""
    from musetalk import prepare_avatar

    boxes = np.tile([139, 60, 232, 176], (4, 1))
    boxes[2] = 0
    return prepare_avatar(mesh_models, portrait_frames[:4], boxes=boxes)


@pytest.fixture(scope="session")
def saved_avatar(small_avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder, to be copied into stores."""
    from musetalk.avatar_file import save_avatar

    return save_avatar(small_avatar, tmp_path_factory.mktemp("saved") / "ann", copy_footage=True)


@pytest.fixture
def generator(stores: ModuleType, mesh_models):
    """The networks of `make_store`, which count the frames they draw."""
    return stores.Counting(mesh_models)


@pytest.fixture
def make_store(tmp_path: Path, mesh_models, generator, saved_avatar: Path) -> Iterator[Callable]:
    """``make_store(*names, **limits)``: a store in the test's one folder, with copies of the small avatar."""
    from musetalk.live.store import AvatarStore, StoreLimits
    from musetalk.live.worker import Worker

    made = []
    with Worker(generator, 2) as worker:

        def make(*names: str, **limits):
            root = tmp_path / "avatars"
            store = AvatarStore(root, mesh_models, worker, limits=StoreLimits(**limits))
            for name in names:
                shutil.copytree(saved_avatar, root / name)
            made.append(store)
            return store

        yield make
        for store in made:
            store.close()
