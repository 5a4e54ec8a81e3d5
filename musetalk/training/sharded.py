"""Tensors that may lie whole in every process or in shards (DTensor) across them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelFileError


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process that has a shard takes part."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def gather(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors on the CPU. Every process has to call it; those that do not ``keep`` get nothing."""
    gathered = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if keep:
            gathered[name] = full.detach().cpu()
    return gathered


def sharded_like(full: Tensor, shard: Any) -> Tensor:
    """A whole tensor on the device of ``shard``, and cut as it is."""
    if not hasattr(shard, "device_mesh"):
        return full.to(shard.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(shard.device), shard.device_mesh, shard.placements)


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module, *, keep: bool) -> dict[str, Any]:
    """What the optimiser remembers of every parameter, by the parameter's name; see `gather`."""
    return {
        name: gather(optimizer.state[parameter], keep=keep)
        for name, parameter in network.named_parameters()
        if parameter in optimizer.state
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module, state: Mapping[str, Any]) -> None:
    """Go on from `optimizer_state`. Raises ModelFileError for the state of another network."""
    parameters = dict(network.named_parameters())
    if not set(state) <= set(parameters):
        raise ModelFileError("the optimiser's state belongs to another network; start with --resume none")
    for name, remembered in state.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            # The count of steps is one number, which AdamW keeps on the CPU.
            key: sharded_like(value, parameter) if value.shape == parameter.shape else value
            for key, value in remembered.items()
        }
