"""The learning rate as a function of the step, so that a resumed run needs no scheduler's state."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from .config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of optimiser step ``step``, from 0, of a run of ``steps``: a rise from 0, then the schedule's fall."""
    if step < config.warmup:
        return config.lr * step / config.warmup
    done = min((step - config.warmup) / max(1, steps - config.warmup), 1.0)
    left = {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2.0}[config.schedule]
    return config.final_lr + (config.lr - config.final_lr) * left


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
