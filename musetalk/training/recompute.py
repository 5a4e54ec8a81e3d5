"""Gradient checkpointing: blocks that keep only their inputs and are run again on the way back."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..models.attention import SpatialTransformer
from ..models.layers import Downsample, ResnetBlock, Upsample
from ..models.vae import PixelAttention

# The parts of both networks that call each other with tensors only: a UNet stage also mutates its list of skips.
BLOCKS = (ResnetBlock, SpatialTransformer, PixelAttention, Downsample, Upsample)


def recompute_blocks(network: nn.Module) -> int:
    """Make every block of this network (`BLOCKS`) drop its activations and compute them again in the backward pass.

    Changes this object alone, not its class, its parameters or their names; without gradients nothing differs.
    Returns how many blocks it holds.
    """
    blocks = [module for module in network.modules() if isinstance(module, BLOCKS)]
    for block in blocks:
        block.forward = _recomputed(block.forward)  # type: ignore[method-assign]
    return len(blocks)


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(forward)
    def run(*inputs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*inputs)
        # The networks draw no random numbers, so there is no generator to wind back.
        result: Tensor = checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)
        return result

    return run
