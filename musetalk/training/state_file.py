"""Nested training state as a safetensors file: tensors as tensors, everything else as JSON in the header. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ModelFileError

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
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tree = json.loads((file.metadata() or {})[_TREE])
            return _with_tensors(tree, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelFileError(
            f"{path}: not a training state, or damaged ({error}); resume from an older checkpoint with --resume PATH"
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
