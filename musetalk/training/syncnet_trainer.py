"""SyncNet and its optimiser: one step after another, and all of their state.

A step draws nothing from global generators: pairs follow from seed, process and micro-step. So weights and optimiser
are all there is to save.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError, MuseTalkError
from ..models.syncnet import SyncNet
from .checkpoint import read_facts
from .schedule import learning_rate, set_learning_rate
from .sharded import gather, load_optimizer_state, optimizer_state, whole
from .state_file import load_state, save_state
from .syncnet_config import SyncNetTrainingConfig
from .syncnet_data import SyncBatch
from .syncnet_pairs import draw_partners, pair_loss, pair_means, pair_similarities, pair_sums

WEIGHTS = "syncnet.safetensors"
_OPTIMIZER = "optimizer.safetensors"


class SyncNetTrainer:
    """SyncNet on this process's device.

    config: of the run. accelerator: accelerate's, of `make_accelerator`. network: in float32.
    batches: this process's, from the one after those that ``steps`` optimiser steps have used.
    """

    def __init__(
        self, config: SyncNetTrainingConfig, accelerator: Any, network: SyncNet, batches: Iterator[SyncBatch]
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.batches = batches
        self.steps = 0
        settings = config.optimizer
        beta1, beta2 = settings.betas
        network = network.to(accelerator.device).requires_grad_(True)
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.lr, (beta1, beta2), settings.eps, settings.weight_decay
        )
        self.wrapped, self.optimizer = accelerator.prepare(network, optimizer)
        self.network: SyncNet = accelerator.unwrap_model(self.wrapped)

    def step(self) -> dict[str, float]:
        """One optimiser step. Returns what `pair_means` does, over micro-steps and processes, gradient norm and rate.

        Raises MuseTalkError when the similarities or the gradient are no finite numbers any more.
        """
        rate = learning_rate(self.config.optimizer, self.steps, self.config.steps)
        set_learning_rate(self.optimizer, rate)
        sums = torch.zeros(5, device=self.accelerator.device)
        norm = math.nan
        for number in range(self.config.accumulation):
            with self.accelerator.accumulate(self.wrapped):
                micro_step = self.steps * self.config.accumulation + number
                rng = np.random.default_rng((self.config.seed, self.accelerator.process_index, micro_step))
                batch = next(self.batches)
                partners = draw_partners(batch.keys, batch.starts, self.config.data.least_shift, rng)
                in_sync, out_of_sync = self._compare(batch, partners)
                self.accelerator.backward(pair_loss(in_sync, out_of_sync))
                sums += pair_sums(in_sync, out_of_sync)
                if self.accelerator.sync_gradients:
                    clip = self.config.optimizer.clip
                    limit = math.inf if clip is None else clip
                    norm = float(whole(self.accelerator.clip_grad_norm_(self.wrapped.parameters(), limit)))
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.steps += 1
        # A step that float16 skips has a gradient out of its range, and the next one a smaller scale.
        if not math.isfinite(norm) and not self.accelerator.optimizer_step_was_skipped:
            raise self._lost(f"the gradient's norm is {norm}")
        return {**pair_means(self.accelerator.reduce(sums, reduction="sum")), "gradient_norm": norm, "lr": rate}

    @torch.no_grad()
    def validate(self, batches: Iterator[tuple[SyncBatch, np.ndarray]]) -> dict[str, float]:
        """What `pair_means` says of batches and their partners. Every process has to call it, with the same ones."""
        sums = torch.zeros(5, device=self.accelerator.device)
        for batch, partners in batches:
            sums += pair_sums(*self._compare(batch, partners))
        return pair_means(sums)

    def _compare(self, batch: SyncBatch, partners: np.ndarray) -> tuple[Tensor, Tensor]:
        device = self.accelerator.device
        with self.accelerator.autocast():
            visual, audio = self.wrapped(batch.frames.to(device), batch.mel.to(device))
        in_sync, out_of_sync = pair_similarities(visual, audio, partners)
        # Cross entropy does not take them, and on CUDA would end the process without a word.
        if not (torch.isfinite(in_sync).all() and torch.isfinite(out_of_sync).all()):
            raise self._lost("similarities are no finite numbers")
        return in_sync, out_of_sync

    def _lost(self, problem: str) -> MuseTalkError:
        return MuseTalkError(
            f"after {self.steps} steps {problem}; go on from an older checkpoint with --resume PATH and a lower "
            "optimizer.lr, or with precision bf16 instead of fp16"
        )

    def save(self, folder: Path) -> None:
        """Write everything `load` needs, and what `load_syncnet` reads, into an existing folder.

        Every process has to call it.
        """
        main = self.accelerator.is_main_process
        weights = gather(self.network.state_dict(), keep=main)
        remembered = optimizer_state(self.optimizer.optimizer, self.network, keep=main)
        if main:
            scaler = self.accelerator.scaler
            save_file(weights, folder / WEIGHTS)
            save_state(
                {"optimizer": remembered, "scaler": None if scaler is None else scaler.state_dict()},
                folder / _OPTIMIZER,
            )

    def facts(self) -> dict[str, Any]:
        """What a resumed run checks, for ``checkpoint.json``."""
        return {"processes": self.accelerator.num_processes, "config": self.config.to_dict()}

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint whose weights are loaded already. Raises ModelFileError, InputError."""
        facts = read_facts(folder)
        if facts["processes"] != self.accelerator.num_processes:
            raise InputError(
                f"{folder} is of a run with {facts['processes']} processes, this one has "
                f"{self.accelerator.num_processes}; use as many, or start from its weights: "
                f"--resume none --set weights={folder / WEIGHTS} and another output"
            )
        self.steps = facts["step"]
        state = load_state(folder / _OPTIMIZER)
        load_optimizer_state(self.optimizer.optimizer, self.network, state["optimizer"])
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
