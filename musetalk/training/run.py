"""A training run from its configuration to its export."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, OutputError
from ..extras import require
from ..terminal import TerminalProgress
from .batches import training_batches, validation_batches
from .checkpoint import Checkpoints, read_facts
from .config import TrainingConfig
from .export import export_models
from .generator import Batch
from .networks import FoundNetworks, build_networks, build_objective, find_networks
from .running import anyone, check_resumption, go_on_from, save_checkpoint
from .shared_folder import check_shared
from .stopping import StopRequest
from .trainer import UNET, Trainer
from .training_log import TrainingLog
from .validation import validate

CHECKPOINTS = "checkpoints"
EXPORT = "export"
_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
# What may change between a run and its resumption without changing what the next step computes.
_FREE_TO_CHANGE = {
    *("output", "log_every", "checkpoint_every", "keep"),
    *("data.path", "model.folder", "model.unet", "model.architecture", "losses.vgg", "losses.syncnet"),
    *("validation.every", "validation.batches", "validation.batch_size"),
}

OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainingReport:
    """steps: done in all. resumed_from: the checkpoint this run went on from. stopped: by a signal, before the end.

    losses: of the last step. checkpoint: the newest. export: the models folder; None for a stopped run.
    """

    steps: int
    resumed_from: Path | None
    stopped: bool
    losses: dict[str, float]
    checkpoint: Path
    export: Path | None

    def to_dict(self) -> dict[str, Any]:
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


def train(
    config: TrainingConfig, *, resume: str = "auto", quiet: bool = True, on_step: OnStep | None = None
) -> TrainingReport:
    """Train as `config` says, in this process or in each of those that ``accelerate launch`` started.

    resume: see `Checkpoints.choose`. quiet: no progress bar. on_step(step, values) is called after every optimiser
    step. SIGINT and SIGTERM write a checkpoint and end the run.
    Everything that can be wrong with data, files and settings is found before a network is built.
    Raises InputError, ModelFileError, OutputError.
    """
    accelerator = make_accelerator(config)
    check_shared(config.output, accelerator)
    checkpoints = Checkpoints(config.output / CHECKPOINTS, config.keep)
    start = checkpoints.choose(resume)
    steps = 0
    if start is not None:
        facts = read_facts(start)
        steps = facts["step"]
        check_resumption(config.to_dict(), facts, start, _FREE_TO_CHANGE)
    found = find_networks(config, None if start is None else start / UNET)
    held_out = validation_batches(config)
    batches = training_batches(
        config, accelerator.process_index, accelerator.num_processes, steps * config.accumulation
    )
    torch.manual_seed(config.seed)  # the same first weights in every process
    models = build_networks(found, config, accelerator.device)
    objective = build_objective(config, accelerator.device)
    torch.manual_seed(config.seed + accelerator.process_index)
    trainer = Trainer(config, accelerator, models, objective, batches)
    if start is not None:
        trainer.load(start)
        go_on_from(start, checkpoints, accelerator)
    run = _Run(config, trainer, replace(models, unet=trainer.unet), held_out, checkpoints, found)
    return run(start, quiet=quiet, on_step=on_step)


def make_accelerator(config: TrainingConfig) -> Any:
    """Accelerate's `Accelerator` as the run and the user's accelerate configuration want it.

    Raises InputError for a way of distributing a network whose state could not be saved as plain tensors.
    """
    accelerate = require("accelerate", "train")
    accelerator = accelerate.Accelerator(
        mixed_precision=None if config.precision is None else _PRECISIONS[config.precision],
        gradient_accumulation_plugin=accelerate.utils.GradientAccumulationPlugin(
            num_steps=config.accumulation,
            # The batches never end, and a step always takes all of its micro-steps.
            sync_with_dataloader=False,
        ),
    )
    kind = accelerator.distributed_type.value
    if kind == "DEEPSPEED" or (kind == "FSDP" and not accelerator.is_fsdp2):
        name = "DeepSpeed" if kind == "DEEPSPEED" else "FSDP version 1"
        raise InputError(
            f"{name} keeps the optimiser's state in a form that cannot be saved without pickle and resumed exactly; "
            "run `accelerate config` and choose FSDP with fsdp_version 2, which shards the same things, or plain "
            "multi-GPU (DDP)"
        )
    return accelerator


class _Run:
    """The loop around the steps: log, validation, checkpoints, stopping, export."""

    def __init__(
        self,
        config: TrainingConfig,
        trainer: Trainer,
        models: Any,
        held_out: list[Batch],
        checkpoints: Checkpoints,
        found: FoundNetworks,
    ) -> None:
        self.config = config
        self.trainer = trainer
        self.models = models
        self.held_out = held_out
        self.checkpoints = checkpoints
        self.found = found
        self.accelerator = trainer.accelerator

    def __call__(self, start: Path | None, *, quiet: bool, on_step: OnStep | None) -> TrainingReport:
        trainer, config = self.trainer, self.config
        main = self.accelerator.is_main_process
        checkpoint, values = start, {}
        with ExitStack() as stack:
            with _writing(config.output):
                log = stack.enter_context(TrainingLog(config.output, trainer.steps)) if main else None
                # Now, rather than at the first checkpoint hours later.
                self.checkpoints.root.mkdir(exist_ok=True)
            progress = stack.enter_context(TerminalProgress(quiet=quiet or not main, unit="step"))
            request = stack.enter_context(StopRequest())
            stopped = False
            while trainer.steps < config.steps and not stopped:
                begin = time.perf_counter()
                values = trainer.step()
                step, seconds = trainer.steps, time.perf_counter() - begin
                progress("train", step, config.steps)
                if on_step is not None:
                    on_step(step, values)
                stopped = anyone(self.accelerator, request.wanted is not None)
                if log is not None:
                    with _writing(config.output):
                        log.losses(step, values)
                        if step % config.log_every == 0:
                            log.curves(step, {**values, "steps_per_second": 1 / seconds}, "train")
                last = stopped or step == config.steps
                if self.held_out and (step % config.validation.every == 0 or step == config.steps):
                    self._validate(step, log)
                if last or step % config.checkpoint_every == 0:
                    if log is not None:
                        with _writing(config.output):
                            log.flush()
                    checkpoint = save_checkpoint(trainer, self.checkpoints, step)
        assert checkpoint is not None, "the loop ends after a checkpoint"
        finished = trainer.steps == config.steps
        export = self._export() if finished else None
        return TrainingReport(trainer.steps, start, not finished, values, checkpoint, export)

    def _validate(self, step: int, log: TrainingLog | None) -> None:
        # Every process, on the same batches: a sharded UNet needs all of them to draw.
        with self.trainer.average.applied():
            result = validate(self.models, self.trainer.generator, self.trainer.objective, self.held_out)
        if log is not None:
            with _writing(self.config.output):
                log.curves(step, result.losses, "validation")
                log.picture(step, result.collage)

    def _export(self) -> Path:
        """The averaged weights as a models folder."""
        out = self.config.output / EXPORT
        weights = self.trainer.average.state_dict(keep=self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            export_models(weights, self.trainer.unet.config, self.found.frozen, out)
        self.accelerator.wait_for_everyone()
        return out


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error}); make room there or choose another output"
        ) from error
