"""One stage of the training of musetalk-mini: its steps, validations and checkpoints, in pieces if need be."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...errors import ModelFileError, MuseTalkError
from ...terminal import TerminalProgress
from ..checkpoint import Checkpoints, read_facts
from ..muon import Muon
from ..sharded import load_optimizer_state, optimizer_state
from ..state_file import blamed_on, complete_or_absent, load_state, load_tensors, save_state
from ..stopping import StopRequest
from ..training_log import TrainingLog
from .config import StageConfig
from .facts import check_same
from .seeds import Stream, generator

logger = logging.getLogger(__name__)

WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
_KEEP = 2
_LOG_EVERY = 10


N = TypeVar("N", bound=nn.Module)


class Stage(ABC, Generic[N]):
    """What is particular to a stage.

    Everything drawn in a step comes from ``step_generator(step)``, speech excepted: that is equal in distribution only,
    so a resumed run is not equal to one that never stopped but as good as it.

    name: of its folder. network: all that is learnt. facts: all that it is trained with and on, as JSON has it.
    """

    name: str
    stream: Stream

    def __init__(
        self, config: StageConfig, network: N, device: torch.device, seed: int, **trained_on: Mapping[str, Any]
    ) -> None:
        self.config, self.device, self.seed = config, device, seed
        self.facts: dict[str, Any] = {**asdict(config), "seed": seed, **trained_on}
        self.network: N = network.to(device)

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Get ready to validate, before the first step: with what the stage's folder keeps from before, if it does."""

    @abstractmethod
    def losses(self, step: int) -> dict[str, Tensor]:
        """The losses of one batch; ``loss`` is minimised."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures of samples that no step sees, the same ones every time."""

    def step_generator(self, step: int) -> np.random.Generator:
        """For what is drawn in a step, whether the run was resumed or not."""
        return generator(self.stream, self.seed, step)

    def picture(self) -> np.ndarray | None:
        """Something to look at after a validation, uint8 RGB ``[H, W, 3]``."""
        return None

    def autocast(self) -> torch.autocast:
        """The forward pass's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")


def run_stage(stage: Stage[Any], folder: Path, request: StopRequest, *, quiet: bool = True) -> bool:
    """Train until the stage's last step or a signal, going on from the newest checkpoint in ``folder``.

    request: to stop, after a checkpoint; no step is made when it has come already.
    Returns whether the stage is finished. Afterwards its network has the weights of the newest checkpoint.
    Raises InputError for a folder whose checkpoints were trained with or on anything else, finished or not;
    ModelFileError for a damaged checkpoint, OutputError, and MuseTalkError when the loss is no finite number.
    """
    config = stage.config
    checkpoints = Checkpoints(folder / "checkpoints", _KEEP)
    optimizer = Muon(stage.network, config.lr, config.adam_lr)
    step = _load(stage, optimizer, checkpoints, folder)
    if step == config.steps or request.wanted is not None:
        return step == config.steps
    stage.prepare(folder)
    stop = False
    with TrainingLog(folder, step) as log, TerminalProgress(quiet=quiet, unit="step") as progress:
        while step < config.steps and not stop:
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
            # Read once: what is wanted later than this is granted after the next step, not without its checkpoint.
            stop = request.wanted is not None
            if ends or stop or step % config.checkpoint_every == 0:
                log.flush()
                _save(stage, optimizer, checkpoints, step)
    return step == config.steps


def weights_of(folder: Path) -> dict[str, Tensor]:
    """The weights in the newest checkpoint of a stage's folder. Raises ModelFileError where there is none."""
    newest = Checkpoints(folder / "checkpoints", _KEEP).choose("auto")
    if newest is None:
        raise ModelFileError(f"{folder} holds no checkpoint; train this stage first")
    with _damage_named(newest):
        return load_tensors(newest / WEIGHTS)


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


def _load(stage: Stage[Any], optimizer: Muon, checkpoints: Checkpoints, folder: Path) -> int:
    start = checkpoints.choose("auto")
    if start is None:
        return 0
    with _damage_named(start):
        facts = read_facts(start)
        check_same(stage.name, folder, facts["config"], stage.facts)
        with blamed_on(start / WEIGHTS):
            stage.network.load_state_dict(load_tensors(start / WEIGHTS))
        with blamed_on(start / OPTIMIZER):
            load_optimizer_state(optimizer, stage.network, load_state(start / OPTIMIZER))
    return int(facts["step"])


def _save(stage: Stage[Any], optimizer: Muon, checkpoints: Checkpoints, step: int) -> None:
    part = checkpoints.begin(step)
    with complete_or_absent(part):
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in stage.network.state_dict().items()}
        save_file(weights, part / WEIGHTS)
        save_state(optimizer_state(optimizer, stage.network, keep=True), part / OPTIMIZER)
    checkpoints.finish(step, {"processes": 1, "config": stage.facts})


@contextmanager
def _damage_named(checkpoint: Path) -> Iterator[None]:
    """Inside, a checkpoint is read; the way out of a damaged one is this command's own."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(
            f"{checkpoint}: damaged ({error.__cause__ or error}); delete it, and the same command goes on from the one "
            "before"
        ) from error
