"""One optimiser step after another: the networks that learn, their optimisers, and all of their state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MuseTalkError
from ..models.load import Models
from ..models.unet import UNet
from .checkpoint import FACTS, read_facts
from .config import OptimizerConfig, TrainingConfig
from .ema import MovingAverage
from .export import save_unet
from .generator import Batch, Generator
from .objective import Objective
from .random_state import random_state, set_random_state
from .schedule import learning_rate, set_learning_rate
from .sharded import gather, load_optimizer_state, optimizer_state, whole
from .state_file import blamed_on, load_state, load_tensors, save_state

UNET = "unet.safetensors"
AVERAGE = "ema.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_DISCRIMINATORS = "discriminators.safetensors"
_RANDOM = "random-{:05d}.safetensors"


class Trainer:
    """The UNet, its discriminators and their optimisers on this process's device.

    config: of the run. accelerator: accelerate's, with `accelerator_options`.
    networks: on the accelerator's device; the UNet in float32. objective: moved there.
    batches: this process's batches, from the one after those that ``step`` optimiser steps have used.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Any,
        networks: Models,
        objective: Objective,
        batches: Iterator[Batch],
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.batches = batches
        self.steps = 0
        self.objective = objective.to(accelerator.device)
        unet = networks.unet.requires_grad_(True)
        optimizer = _adamw(unet.parameters(), config.optimizer)
        self.wrapped, self.optimizer = accelerator.prepare(unet, optimizer)
        self.unet: UNet = accelerator.unwrap_model(self.wrapped)
        self.generator = Generator(self.wrapped, networks.vae, networks.audio_encoder)
        self.average = MovingAverage(self.unet, config.ema_decay)
        # A few million parameters: kept whole everywhere and averaged here, which is the same under every way of
        # distributing the UNet. Accelerate's FSDP and DeepSpeed take one model each.
        self.discriminators = self.objective.discriminators
        parameters = list(self.discriminators.parameters())
        self.discriminator_optimizer = _adamw(parameters, config.discriminator) if parameters else None

    def step(self) -> dict[str, float]:
        """One optimiser step. Returns its losses, mean over micro-steps and processes, and what else is worth a curve.

        Raises MuseTalkError when a loss or a gradient is no finite number any more, before it reaches the weights.
        """
        rate = learning_rate(self.config.optimizer, self.steps, self.config.steps)
        set_learning_rate(self.optimizer, rate)
        micro_steps = []
        for _ in range(self.config.accumulation):
            with self.accelerator.accumulate(self.wrapped):
                micro_steps.append(self._micro_step(next(self.batches)))
        self._step_discriminators()
        if not self.accelerator.optimizer_step_was_skipped:  # float16 found an infinite gradient
            self.average.update()
        values = self._mean(micro_steps)
        values["lr"] = rate
        self.steps += 1
        if not math.isfinite(values["loss"]):
            raise _lost(f"the loss of step {self.steps} is {values['loss']}")  # float16 skipped this step
        return values

    def _micro_step(self, batch: Batch) -> dict[str, Tensor]:
        batch = {name: value.to(self.accelerator.device) for name, value in batch.items() if torch.is_tensor(value)}
        first, count = self._drawn_frames(batch["targets"].shape[1])
        with self.accelerator.autocast():
            inputs = self.generator.prepare(take_frames(batch, first, count))
            images = self.generator.decode(self.generator.predict(inputs))
        drawn = images.float().unflatten(0, (-1, count))
        total, parts = self.objective(drawn, batch, first, self.steps)
        self.accelerator.backward(total)
        values = {"loss": total.detach(), **parts}
        if self.accelerator.sync_gradients:
            clip = self.config.optimizer.clip
            norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), math.inf if clip is None else clip)
            values["gradient_norm"] = norm = whole(norm).to(total.device)
            if self.accelerator.scaler is None:  # which has steps of its own to skip
                self._check_finite(values)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, loss in self.objective.discriminator_losses(drawn.detach(), batch, first, self.steps).items():
            (loss / self.config.accumulation).backward()
            values[f"discriminator_{name}"] = loss.detach()
        return values

    def _check_finite(self, values: dict[str, Tensor]) -> None:
        for name, title in (("loss", "loss"), ("gradient_norm", "gradient's norm")):
            if not torch.isfinite(values[name]):
                raise _lost(f"the {title} of step {self.steps + 1} is {values[name]:g}")

    def _drawn_frames(self, frames: int) -> tuple[int, int]:
        count = min(self.config.losses.backward_frames, frames)
        return (int(torch.randint(frames - count + 1, ())) if count < frames else 0), count

    def _step_discriminators(self) -> None:
        gradients = [p.grad for p in self.discriminators.parameters() if p.grad is not None]
        if self.discriminator_optimizer is None or not gradients:
            return
        config = self.config.discriminator
        joined = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="mean")
        for gradient, part in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        clip = math.inf if config.clip is None else config.clip
        norm = torch.nn.utils.clip_grad_norm_(self.discriminators.parameters(), clip)
        if not torch.isfinite(norm):
            raise _lost(f"the norm of the discriminators' gradient at step {self.steps + 1} is {norm:g}")
        set_learning_rate(self.discriminator_optimizer, learning_rate(config, self.steps, self.config.steps))
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()

    def _mean(self, micro_steps: list[dict[str, Tensor]]) -> dict[str, float]:
        # The gradient's norm exists once a step; every loss once a micro-step.
        names = list(dict.fromkeys(name for values in micro_steps for name in values))
        means = [torch.stack([v[name].float() for v in micro_steps if name in v]).mean() for name in names]
        return dict(zip(names, self.accelerator.reduce(torch.stack(means), reduction="mean").tolist(), strict=True))

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into an existing folder. Every process has to call it."""
        main = self.accelerator.is_main_process
        save_state(random_state(), folder / _RANDOM.format(self.accelerator.process_index))
        weights = gather(self.unet.state_dict(), keep=main)
        average = self.average.state_dict(keep=main)
        remembered = optimizer_state(self._inner_optimizer, self.unet, keep=main)
        if not main:
            return
        save_unet(weights, self.unet.config, folder / UNET)
        save_unet(average, self.unet.config, folder / AVERAGE)
        save_state(remembered, folder / _OPTIMIZER)
        if self.discriminator_optimizer is not None:
            networks = dict(self.discriminators.state_dict())
            remembered = optimizer_state(self.discriminator_optimizer, self.discriminators, keep=True)
            save_state({"networks": networks, "optimizer": remembered}, folder / _DISCRIMINATORS)

    def facts(self) -> dict[str, Any]:
        """What `load` needs besides the files of `save`, for ``checkpoint.json``."""
        return {
            "average_updates": self.average.updates,
            "micro_steps": self.steps * self.config.accumulation,
            "processes": self.accelerator.num_processes,
            "discriminators": sorted(self.discriminators),
            "scaler": {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "config": self.config.to_dict(),
        }

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint whose UNet is loaded already. Raises ModelFileError, InputError."""
        facts = read_facts(folder, average_updates=int, discriminators=list, scaler=dict)
        if facts["processes"] != self.accelerator.num_processes:
            raise InputError(
                f"{folder} is of a run with {facts['processes']} processes, this one has "
                f"{self.accelerator.num_processes}; use as many, or start from its weights: "
                f"--resume none --set model.unet={folder / UNET} and another output"
            )
        self.steps = facts["step"]
        with blamed_on(folder / AVERAGE):
            self.average.load_state_dict(load_tensors(folder / AVERAGE), facts["average_updates"])
        with blamed_on(folder / _OPTIMIZER):
            load_optimizer_state(self._inner_optimizer, self.unet, load_state(folder / _OPTIMIZER))
        if self.discriminator_optimizer is not None and facts["discriminators"]:
            with blamed_on(folder / _DISCRIMINATORS):
                state = load_state(folder / _DISCRIMINATORS)
                self.discriminators.load_state_dict(state["networks"])
                load_optimizer_state(self.discriminator_optimizer, self.discriminators, state["optimizer"])
        if self.accelerator.scaler is not None and facts["scaler"]:
            with blamed_on(folder / FACTS):
                self.accelerator.scaler.load_state_dict(facts["scaler"])
        random = folder / _RANDOM.format(self.accelerator.process_index)
        with blamed_on(random):
            set_random_state(load_state(random))

    @property
    def _inner_optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.optimizer.optimizer
        return optimizer


def take_frames(batch: Batch, first: int, count: int) -> Batch:
    """The batch with only these frames of every sample."""
    frames = slice(first, first + count)
    return {**batch, **{name: batch[name][:, frames] for name in ("targets", "references", "window_starts")}}


def _lost(problem: str) -> MuseTalkError:
    return MuseTalkError(
        f"{problem}; go on from an older checkpoint with --resume PATH and a lower optimizer.lr, or with precision "
        "bf16 instead of fp16"
    )


def _adamw(parameters: Any, config: OptimizerConfig) -> torch.optim.AdamW:
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        parameters, config.lr, betas=(beta1, beta2), eps=config.eps, weight_decay=config.weight_decay
    )
