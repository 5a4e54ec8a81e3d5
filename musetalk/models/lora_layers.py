"""The trainable form of a LoRA: two small layers beside every attention projection of a frozen UNet."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..profile import Version
from .low_rank import DEFAULT_RANK, LoRA, LowRank, projections, targets_of
from .unet import UNet


class LoRALinear(nn.Linear):
    """A frozen linear layer with a trainable low-rank branch beside it, in float32.

    Takes over the layer's own weight and bias under their own names; the branch adds ``lora_A.weight`` and
    ``lora_B.weight``. As ``lora_B`` starts at zero, nothing differs before the first step.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        # On meta, so that nothing is allocated for the weights that are replaced in the next lines.
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        device = linear.weight.device
        self.alpha = alpha
        self.lora_A = nn.Linear(linear.in_features, rank, bias=False, device=device)
        self.lora_B = nn.Linear(rank, linear.out_features, bias=False, device=device)
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)
        self.train(linear.training)

    @property
    def rank(self) -> int:
        return self.lora_A.out_features

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.lora_B(self.lora_A(self.dropout(x)))
        return super().forward(x) + branch * (self.alpha / self.rank)


def inject_lora(
    unet: UNet, rank: int = DEFAULT_RANK, alpha: float | None = None, dropout: float = 0.0
) -> list[nn.Parameter]:
    """Freeze a UNet and put a LoRA into it that can be trained. Returns the LoRA's parameters, float32.

    alpha: default is the rank. dropout: of the branches' inputs, drawn anew at each call: blocks that are computed
        twice (gradient checkpointing without the generator's state) must do without.
    First weights are drawn from torch's generator. The UNet has to be in float32, or run under autocast.
    Raises InputError for a UNet that has a LoRA already, and for a rank, alpha or dropout that cannot be.
    """
    alpha = float(rank) if alpha is None else alpha
    targets_of(unet.config).check(rank, alpha)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout}; it must lie from 0 to below 1")
    layers = list(projections(unet))
    if any(isinstance(layer, LoRALinear) for _, layer in layers):
        raise InputError("the UNet has a trainable LoRA already; load it anew")
    unet.requires_grad_(False)
    for name, layer in layers:
        unet.set_submodule(name, LoRALinear(layer, rank, alpha, dropout))
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def injected_layers(unet: UNet) -> dict[str, LoRALinear]:
    """The layers that `inject_lora` put in, by name of the projection. Raises InputError where there are none."""
    layers = {name: layer for name, layer in projections(unet) if isinstance(layer, LoRALinear)}
    if not layers:
        raise InputError("the UNet has no trainable LoRA; put one in with inject_lora")
    return layers


@torch.no_grad()
def extract_lora(unet: UNet, version: Version = "v15") -> LoRA:
    """A copy of the LoRA that is being trained in a UNet, float32 on the CPU. version: of the UNet's weights."""
    layers = injected_layers(unet)
    first = next(iter(layers.values()))
    copies = {
        name: LowRank(
            down=layer.lora_A.weight.detach().to("cpu", copy=True), up=layer.lora_B.weight.detach().to("cpu", copy=True)
        )
        for name, layer in layers.items()
    }
    return LoRA(first.rank, first.alpha, version, copies)
