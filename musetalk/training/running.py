"""What every kind of training run does around its steps: going on from a checkpoint, stopping together, saving."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import InputError
from .checkpoint import Checkpoints
from .state_file import complete_or_absent

logger = logging.getLogger(__name__)


class Savable(Protocol):
    """A trainer, as far as its checkpoints go."""

    accelerator: Any

    def save(self, folder: Path) -> None: ...

    def facts(self) -> dict[str, Any]: ...


def check_resumption(
    settings: Mapping[str, Any], facts: Mapping[str, Any], start: Path, free_to_change: Collection[str]
) -> None:
    """Refuse a checkpoint that has done all steps already, and tell which settings differ from those it was made with.

    settings: of this run, nested, with ``steps``. facts: of the checkpoint ``start``. free_to_change: settings, as
    ``section.key``, that do not change what the next step computes. Raises InputError.
    """
    if facts["step"] >= settings["steps"]:
        raise InputError(f"{start} has done {facts['step']} steps already; give steps more than that to go on")
    before, now = _flat(facts["config"]), _flat(settings)
    changed = [name for name in now if name not in free_to_change and before.get(name) != now[name]]
    if changed:
        logger.warning(
            "going on from %s with other settings, so not exactly as it would have: %s",
            start,
            ", ".join(f"{name} {before.get(name)} -> {now[name]}" for name in changed),
        )


def go_on_from(start: Path, checkpoints: Checkpoints, accelerator: Any) -> None:
    """Set aside what came after ``start``, once every process has read it."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        checkpoints.go_on_from(start)
        logger.info("going on from %s", start)


def anyone(accelerator: Any, stop: bool) -> bool:
    """Whether any process was asked to stop: all have to leave the loop at the same step."""
    asked = accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), reduction="sum")
    return bool(asked > 0)


def save_checkpoint(trainer: Savable, checkpoints: Checkpoints, step: int) -> Path:
    """Write a checkpoint; every process takes part, the main one makes it visible. Raises OutputError."""
    accelerator, part = trainer.accelerator, checkpoints.part_of(step)
    if accelerator.is_main_process:
        checkpoints.begin(step)
    accelerator.wait_for_everyone()
    with complete_or_absent(part):
        trainer.save(part)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        checkpoints.finish(step, trainer.facts())
    accelerator.wait_for_everyone()
    return checkpoints.path_of(step)


def _flat(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}
