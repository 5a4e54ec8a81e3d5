"""A training run of SyncNet from its configuration to its last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, OutputError
from ..models.syncnet import PUBLISHED, SyncNet, SyncNetConfig, load_syncnet
from ..terminal import TerminalProgress
from .checkpoint import Checkpoints, read_facts
from .config import DataConfig, TrainingConfig
from .run import CHECKPOINTS, make_accelerator
from .running import anyone, check_resumption, go_on_from, save_checkpoint
from .shared_folder import check_shared
from .stopping import StopRequest
from .syncnet_config import SyncNetTrainingConfig
from .syncnet_data import check_validation, training_pairs, validation_pairs
from .syncnet_trainer import WEIGHTS, SyncNetTrainer
from .training_log import TrainingLog

# What may change between a run and its resumption without changing what the next step computes.
_FREE_TO_CHANGE = {
    *("output", "weights", "log_every", "checkpoint_every", "keep", "data.path"),
    *("validation.every", "validation.batches", "validation.batch_size"),
}

OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class SyncNetReport:
    """steps: done in all. resumed_from: the checkpoint this run went on from. stopped: by a signal, before the end.

    losses: of the last step. validation: the last of this run, empty for none; see `pair_means`.
    checkpoint: the newest. weights: in it, for `load_syncnet`.
    """

    steps: int
    resumed_from: Path | None
    stopped: bool
    losses: dict[str, float]
    validation: dict[str, float]
    checkpoint: Path
    weights: Path

    def to_dict(self) -> dict[str, Any]:
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


def train_syncnet(
    config: SyncNetTrainingConfig,
    *,
    architecture: SyncNetConfig = PUBLISHED,
    resume: str = "auto",
    quiet: bool = True,
    on_step: OnStep | None = None,
) -> SyncNetReport:
    """Train as `config` says, in this process or in each of those that ``accelerate launch`` started.

    architecture: sizes of the network; `train` and `evaluate` take the published ones.
    resume: see `Checkpoints.choose`. quiet: no progress bar. on_step(step, values) is called after every optimiser
    step. SIGINT and SIGTERM write a checkpoint and end the run.
    Everything that can be wrong with data, files and settings is found before the network is built.
    Raises InputError, ModelFileError, OutputError.
    """
    # The accelerator is set up by what both kinds of training are told alike.
    accelerator = make_accelerator(
        TrainingConfig(
            config.output,
            DataConfig(config.data.path),
            config.steps,
            accumulation=config.accumulation,
            precision=config.precision,
        )
    )
    check_shared(config.output, accelerator)
    checkpoints = Checkpoints(config.output / CHECKPOINTS, config.keep)
    start = checkpoints.choose(resume)
    steps = 0
    if start is not None:
        facts = read_facts(start)
        steps = facts["step"]
        check_resumption(config.to_dict(), facts, start, _FREE_TO_CHANGE)
    weights = config.weights if start is None else start / WEIGHTS
    if weights is not None and not weights.is_file():
        raise InputError(f"weights: {weights}: no such file; leave weights out to start from scratch")
    if config.validation.every > 0:
        check_validation(config)
    batches = training_pairs(config, accelerator.process_index, accelerator.num_processes, steps * config.accumulation)
    torch.manual_seed(config.seed)  # the same first weights in every process
    network = SyncNet(architecture) if weights is None else load_syncnet(weights, config=architecture)
    trainer = SyncNetTrainer(config, accelerator, network, batches)
    if start is not None:
        trainer.load(start)
        go_on_from(start, checkpoints, accelerator)
    return _run(config, trainer, checkpoints, start, quiet=quiet, on_step=on_step)


def _run(
    config: SyncNetTrainingConfig,
    trainer: SyncNetTrainer,
    checkpoints: Checkpoints,
    start: Path | None,
    *,
    quiet: bool,
    on_step: OnStep | None,
) -> SyncNetReport:
    """The loop around the steps: log, validation, checkpoints, stopping."""
    main = trainer.accelerator.is_main_process
    checkpoint, values, validation = start, {}, {}
    with ExitStack() as stack:
        try:
            log = stack.enter_context(TrainingLog(config.output, trainer.steps)) if main else None
        except OSError as error:
            raise OutputError(f"cannot write to {config.output} ({error}); choose another output") from error
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
            stopped = anyone(trainer.accelerator, request.wanted is not None)
            ends = step == config.steps
            if log is not None:
                log.losses(step, values)
                if step % config.log_every == 0:
                    log.curves(step, {**values, "steps_per_second": 1 / seconds}, "train")
            if config.validation.every > 0 and (ends or step % config.validation.every == 0):
                validation = trainer.validate(validation_pairs(config))
                if log is not None:
                    log.curves(step, validation, "validation")
            if stopped or ends or step % config.checkpoint_every == 0:
                if log is not None:
                    log.flush()
                checkpoint = save_checkpoint(trainer, checkpoints, step)
    assert checkpoint is not None, "the loop ends after a checkpoint"
    finished = trainer.steps == config.steps
    return SyncNetReport(trainer.steps, start, not finished, values, validation, checkpoint, checkpoint / WEIGHTS)
