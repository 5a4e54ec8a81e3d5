"""What a stage was trained with and on, so that none goes on, or is taken for finished, with anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import InputError

# These change nothing that a step computes.
_FREE_TO_CHANGE = ("validate_every", "checkpoint_every")
_ABSENT = "nothing"


def digest(weights: Mapping[str, Tensor]) -> str:
    """A text that stands for these weights: names, shapes and values."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        hashed.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hashed.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()[:16]


def check_same(name: str, folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse the checkpoints of a stage that was trained with other settings, or on other faces, speech or weights.

    Everything counts, the number of steps too since the learning rates' course depends on it, but not how often there
    is a validation or a checkpoint. Raises InputError.
    """
    old, new = dict(_flat(before)), dict(_flat(json.loads(json.dumps(now))))
    changed = [
        f"{key} {old.get(key, _ABSENT)} (now {new.get(key, _ABSENT)})"
        for key in sorted({*old, *new} - set(_FREE_TO_CHANGE))
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]
    if changed:
        raise InputError(
            f"stage {name} in {folder} was trained with {', '.join(changed)}; choose another output, "
            f"or delete {folder} to train this stage again"
        )


def _flat(settings: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{name}.")
        else:
            yield f"{where}{name}", value
