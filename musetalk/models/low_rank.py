"""What a LoRA is: low-rank changes of the UNet's attention projections, and which projections there are to change."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..profile import Version
from .attention import Attention
from .unet import UNet, UNetConfig

DEFAULT_RANK = 16
# A LoRA is something to send to somebody. Files hold float16; the header takes part of the room.
MAX_BYTES = 50_000_000
_HEADER_BYTES = 200_000
_BYTES_PER_NUMBER = 2
_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class LowRank:
    """The change of one weight ``[out, in]``: ``up @ down``, times the LoRA's scale.

    down: float ``[rank, in]``, called A in files. up: float ``[out, rank]``, called B.
    """

    down: Tensor
    up: Tensor


@dataclass(frozen=True)
class LoRA:
    """Changes of a UNet's attention projections.

    rank: of every change. alpha: the changes are scaled by ``alpha / rank``. version: of the UNet it was trained on.
    layers: by name of the projection, such as ``mid_block.attentions.0.transformer_blocks.0.attn2.to_k``.
    """

    rank: int
    alpha: float
    version: Version
    layers: Mapping[str, LowRank] = field(repr=False)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """The change of a projection's weight at strength 1, float32 ``[out, in]``."""
        layer = self.layers[name]
        return layer.up.to(device, torch.float32) @ layer.down.to(device, torch.float32) * self.scale


@dataclass(frozen=True)
class Targets:
    """What of a UNet of some sizes a LoRA may change.

    shapes: ``(out, in)`` of every attention projection, by name. fingerprint: SHA-256 of the names and shapes of all
    of the UNet's tensors.
    """

    shapes: Mapping[str, tuple[int, int]]
    fingerprint: str

    @property
    def largest_rank(self) -> int:
        """The rank whose file still keeps under `MAX_BYTES`, all projections changed."""
        per_rank = sum(sum(shape) for shape in self.shapes.values()) * _BYTES_PER_NUMBER
        return (MAX_BYTES - _HEADER_BYTES) // per_rank

    def check(self, rank: int, alpha: float) -> None:
        """Raise InputError for a rank or an alpha that makes no LoRA, and for a rank too large to be sent around."""
        if not 1 <= rank <= self.largest_rank:
            raise InputError(
                f"rank is {rank}; use 1 to {self.largest_rank}, beyond which the file is larger than "
                f"{MAX_BYTES // 1_000_000} MB"
            )
        if not (math.isfinite(alpha) and alpha > 0):
            raise InputError(f"alpha is {alpha}; it must be a number above 0, such as the rank")


@lru_cache
def targets_of(config: UNetConfig) -> Targets:
    """The attention projections of a UNet of these sizes; no weights are made."""
    with torch.device("meta"):
        unet = UNet(config)
    shapes = {name: (linear.out_features, linear.in_features) for name, linear in projections(unet)}
    everything = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(unet.state_dict().items()))
    return Targets(MappingProxyType(shapes), hashlib.sha256(everything.encode()).hexdigest())


def projections(unet: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Name and layer of each attention projection, in the order in which they lie in the network."""
    for attention_name, attention in unet.named_modules():
        if isinstance(attention, Attention):
            for part in _PROJECTIONS:
                layer = attention.get_submodule(part)
                assert isinstance(layer, nn.Linear)
                yield f"{attention_name}.{part}", layer
