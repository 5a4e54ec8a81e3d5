"""Nested training state as a safetensors file: tensors as tensors, everything else as JSON in the header. No pickle.

Besides, what reading and writing such files can meet, as errors a user can act on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ModelFileError, OutputError

_TREE = "tree"
_TENSOR = "$tensor"


def save_state(state: Any, path: Path) -> None:
    """Write nested dicts (of text keys) and lists of tensors, numbers, texts, booleans and None.

    Numbers come back exactly; tuples come back as lists.
    """
    tensors: dict[str, Tensor] = {}
    tree = _without_tensors(state, tensors, "")
    save_file(tensors, path, metadata={_TREE: json.dumps(tree)})


def load_state(path: Path) -> Any:
    """What `save_state` wrote, tensors on the CPU. Raises ModelFileError for a missing, damaged or foreign file."""
    with blamed_on(path), safe_open(path, framework="pt", device="cpu") as file:
        tree = json.loads((file.metadata() or {})[_TREE])
        return _with_tensors(tree, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises ModelFileError for a missing or damaged file."""
    with blamed_on(path):
        return load_file(path)


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """Inside, whatever goes wrong with what a checkpoint's file holds becomes a ModelFileError that names the file."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: not a training state, or damaged ({error}); resume from an older checkpoint with --resume PATH"
        ) from error
    except ModelFileError as error:
        if str(path) in str(error):
            raise
        raise ModelFileError(f"{path}: {error}") from error


@contextmanager
def complete_or_absent(part: Path) -> Iterator[None]:
    """Inside, a folder is written; what the disk refuses becomes an OutputError, and the folder is deleted."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(
            f"{part.parent}: cannot be written to ({error}); make room there or choose another output"
        ) from error


def _without_tensors(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    if isinstance(value, Tensor):
        # Copied where two names share memory, which the format does not allow.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        if any(not isinstance(key, str) for key in value):
            raise TypeError(f"training state {name or 'at the top'} has keys that are no texts: {list(value)[:4]}")
        return {key: _without_tensors(item, tensors, f"{name}/{key}" if name else key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(item, tensors, f"{name}/{index}") for index, item in enumerate(value)]
    return value


def _with_tensors(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if set(tree) == {_TENSOR}:
            return tensors[tree[_TENSOR]]
        return {key: _with_tensors(item, tensors) for key, item in tree.items()}
    return [_with_tensors(item, tensors) for item in tree] if isinstance(tree, list) else tree
