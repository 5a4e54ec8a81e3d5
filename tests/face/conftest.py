"""The two public-domain portraits of ``tests/data``, and one loaded mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musetalk.face.mesh import FaceMesh

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture(scope="session")
def hopper() -> np.ndarray:
    """uint8 ``[600, 512, 3]``; one face, box about 170 107 357 333."""
    return np.array(Image.open(DATA / "grace_hopper.jpg").convert("RGB"))


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """uint8 ``[512, 512, 3]``; one face, box about 179 60 272 176."""
    return np.array(Image.open(DATA.parents[1] / "demo" / "astronaut.png").convert("RGB"))


@pytest.fixture(scope="session")
def two_people(astronaut: np.ndarray, hopper: np.ndarray) -> np.ndarray:
    """uint8 ``[600, 1024, 3]``: the astronaut (smaller face) left of x = 512, Grace Hopper right of it."""
    picture = np.zeros((600, 1024, 3), np.uint8)
    picture[:512, :512], picture[:, 512:] = astronaut, hopper
    return picture


@pytest.fixture(scope="session")
def mesh() -> FaceMesh:
    return FaceMesh.load()
