"""One stage of the training of musetalk-mini: its steps, validations and checkpoints, in pieces if need be."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...errors import MuseTalkError
from ...terminal import TerminalProgress
from ..checkpoint import Checkpoints, read_facts
from ..muon import Muon
from ..running import check_resumption
from ..sharded import load_optimizer_state, optimizer_state
from ..state_file import blamed_on, complete_or_absent, load_state, load_tensors, save_state
from ..stopping import StopRequest
from ..training_log import TrainingLog
from .config import StageConfig

logger = logging.getLogger(__name__)

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
_KEEP = 2
_LOG_EVERY = 10
_VALIDATION_SEED = 2**20
# What may change between a run and its resumption without changing what the next step computes.
_FREE_TO_CHANGE = ("validate_every", "checkpoint_every")


N = TypeVar("N", bound=nn.Module)


class Stage(ABC, Generic[N]):
    """What is particular to a stage; everything drawn in a step comes from ``step_generator(step)``.

    name: of its folder. network: all that is learnt.
    """

    name: str

    def __init__(self, config: StageConfig, network: N, device: torch.device, seed: int) -> None:
        self.config, self.device, self.seed = config, device, seed
        self.network: N = network.to(device)

    @abstractmethod
    def losses(self, step: int) -> dict[str, Tensor]:
        """The losses of one batch; ``loss`` is minimised."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures of what training never sees, the same samples every time."""

    def step_generator(self, step: int) -> np.random.Generator:
        """For what is drawn in a step, whether the run was resumed or not."""
        return np.random.default_rng((self.seed, step))

    def validation_generator(self) -> np.random.Generator:
        """For what is drawn to validate; no step has it."""
        return np.random.default_rng((self.seed, _VALIDATION_SEED))

    def picture(self) -> np.ndarray | None:
        """Something to look at after a validation, uint8 RGB ``[H, W, 3]``."""
        return None

    def autocast(self) -> torch.autocast:
        """The forward pass's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")


def run_stage(stage: Stage[Any], folder: Path, *, quiet: bool = True) -> bool:
    """Train until the stage's last step or a signal, going on from the newest checkpoint in ``folder``.

    Returns whether the stage is finished. Afterwards its network has the weights of the newest checkpoint.
    Raises ModelFileError for a damaged checkpoint, OutputError, and MuseTalkError when the loss is no finite number.
    """
    config = stage.config
    checkpoints = Checkpoints(folder / "checkpoints", _KEEP)
    optimizer = Muon(stage.network, config.lr, config.adam_lr)
    settings = {**asdict(config), "seed": stage.seed}
    step = _load(stage, optimizer, checkpoints, settings)
    if step == config.steps:
        return True
    with (
        TrainingLog(folder, step) as log,
        TerminalProgress(quiet=quiet, unit="step") as progress,
        StopRequest() as request,
    ):
        while step < config.steps and request.wanted is None:
            begin = time.perf_counter()
            values = _step(stage, optimizer, step)
            step += 1
            progress(stage.name, step, config.steps)
            log.losses(step, {**values, "seconds": time.perf_counter() - begin})
            if step % _LOG_EVERY == 0:
                log.curves(step, values, "train")
            ends = step == config.steps
            if ends or step % config.validate_every == 0:
                _validate(stage, step, log)
            if ends or request.wanted is not None or step % config.checkpoint_every == 0:
                log.flush()
                _save(stage, optimizer, checkpoints, step, settings)
    return step == config.steps


def weights_of(folder: Path) -> dict[str, Tensor] | None:
    """The weights in the newest checkpoint of a stage's folder; None where there is none."""
    newest = Checkpoints(folder / "checkpoints", _KEEP).choose("auto")
    return None if newest is None else load_tensors(newest / WEIGHTS)


def _step(stage: Stage[Any], optimizer: Muon, step: int) -> dict[str, float]:
    torch.manual_seed(stage.seed * 1_000_003 + step)
    share = stage.config.share(step)
    optimizer.set_share(share)
    stage.network.train()
    losses = stage.losses(step)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = float(nn.utils.clip_grad_norm_(stage.network.parameters(), stage.config.clip))
    if not math.isfinite(norm):
        raise MuseTalkError(
            f"stage {stage.name}: after {step} steps the gradient's norm is {norm}; lower {stage.name}.lr, or use "
            "precision fp32, and run again: it goes on from the newest checkpoint"
        )
    optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()} | {"gradient_norm": norm, "share": share}


def _validate(stage: Stage[Any], step: int, log: TrainingLog) -> None:
    stage.network.eval()
    with torch.no_grad():
        values = stage.validate()
        picture = stage.picture()
    log.curves(step, values, "validation")
    log.losses(step, {f"validation/{name}": value for name, value in values.items()})
    if picture is not None:
        log.picture(step, picture)
    logger.info("%s %d: %s", stage.name, step, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))


def _load(stage: Stage[Any], optimizer: Muon, checkpoints: Checkpoints, settings: Mapping[str, Any]) -> int:
    start = checkpoints.choose("auto")
    if start is None:
        return 0
    facts = read_facts(start)
    if facts["step"] < settings["steps"]:
        check_resumption(settings, facts, start, _FREE_TO_CHANGE)
    with blamed_on(start / WEIGHTS):
        stage.network.load_state_dict(load_tensors(start / WEIGHTS))
    with blamed_on(start / OPTIMIZER):
        load_optimizer_state(optimizer, stage.network, load_state(start / OPTIMIZER))
    return min(facts["step"], int(settings["steps"]))


def _save(stage: Stage[Any], optimizer: Muon, checkpoints: Checkpoints, step: int, settings: Mapping[str, Any]) -> None:
    part = checkpoints.begin(step)
    with complete_or_absent(part):
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in stage.network.state_dict().items()}
        save_file(weights, part / WEIGHTS)
        save_state(optimizer_state(optimizer, stage.network, keep=True), part / OPTIMIZER)
    checkpoints.finish(step, {"processes": 1, "config": dict(settings)})
