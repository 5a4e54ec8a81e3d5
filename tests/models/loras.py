"""A LoRA of random numbers for the tests."""

from __future__ import annotations

import torch

from musetalk.models.low_rank import LoRA, LowRank, targets_of
from musetalk.models.unet import UNetConfig

DOWN, UP = ".lora_A.weight", ".lora_B.weight"


def random_lora(config: UNetConfig, rank: int = 4, alpha: float = 6.0, seed: int = 0, only: str = "") -> LoRA:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: LowRank(
            torch.randn(rank, inputs, generator=generator) / inputs**0.5,
            torch.randn(outputs, rank, generator=generator) * 0.1,
        )
        for name, (outputs, inputs) in targets_of(config).shapes.items()
        if only in name
    }
    return LoRA(rank, alpha, "v15", layers)
