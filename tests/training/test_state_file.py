"""State in safetensors: nested values, and the generators of random numbers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from musetalk.errors import ModelFileError
from musetalk.training.random_state import random_state, set_random_state
from musetalk.training.state_file import load_state, save_state


def test_state_comes_back_exactly(tmp_path: Path):
    shared = torch.arange(4.0)
    state = {"a": [shared, {"b.c/d": shared[1:]}], "n": 0.1 + 0.2, "t": (1, None, True, "x"), "e": {}, "l": []}
    save_state(state, tmp_path / "s.safetensors")
    found = load_state(tmp_path / "s.safetensors")
    assert torch.equal(found["a"][0], shared)
    assert torch.equal(found["a"][1]["b.c/d"], shared[1:])
    assert (found["n"], found["t"], found["e"], found["l"]) == (0.1 + 0.2, [1, None, True, "x"], {}, [])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:-3])
    with pytest.raises(ModelFileError, match="damaged"):
        load_state(tmp_path / "cut.safetensors")


def test_every_generator_is_put_back(tmp_path: Path):
    save_state(random_state(), tmp_path / "r.safetensors")

    def draw() -> list[float]:
        legacy = [float(np.random.rand()), float(np.random.randn())]  # noqa: NPY002
        return [random.random(), random.gauss(0, 1), *legacy, torch.rand(1).item()]

    first = draw()
    assert draw() != first
    set_random_state(load_state(tmp_path / "r.safetensors"))
    assert draw() == first
