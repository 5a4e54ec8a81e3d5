"""LoRAs in use: merged into the weights of a UNet, and taken out again exactly."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from ..errors import InputError
from .load import Models
from .lora_file import SUFFIX, load_lora, save_lora
from .low_rank import LoRA, LowRank, projections
from .unet import UNet

__all__ = [
    "LoRA",
    "LowRank",
    "MergedLoRAs",
    "apply_lora",
    "apply_loras",
    "load_lora",
    "lora_patches",
    "parse_lora",
    "save_lora",
    "with_loras",
]

logger = logging.getLogger(__name__)

Patch = tuple[Tensor, Tensor, float, None, None, None]


class MergedLoRAs:
    """LoRAs merged into a UNet; `remove` gives it back its own weights, bit for bit. Also a context manager."""

    def __init__(self, changes: Sequence[tuple[nn.Linear, nn.Parameter]]) -> None:
        """changes: layers, each with the weight it is to have. Made by `apply_loras`."""
        self._changes = [(layer, layer.weight, merged) for layer, merged in changes]
        for layer, _, merged in self._changes:
            layer.weight = merged

    def remove(self) -> None:
        """Take the LoRAs out; a second call does nothing.

        Raises InputError where others were merged on top: those have to be removed first.
        """
        if any(layer.weight is not merged for layer, _, merged in self._changes):
            raise InputError("other LoRAs were merged on top of these; remove the last merged first")
        for layer, original, _ in self._changes:
            layer.weight = original
        self._changes = []

    def __enter__(self) -> MergedLoRAs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def apply_lora(unet: UNet, lora: LoRA, strength: float = 1.0) -> MergedLoRAs:
    """Merge one LoRA into a UNet; see `apply_loras`."""
    return apply_loras(unet, [(lora, strength)])


@torch.no_grad()
def apply_loras(unet: UNet, loras: Sequence[tuple[LoRA, float]]) -> MergedLoRAs:
    """Merge LoRAs into a UNet: every changed weight becomes ``W + sum of strength * alpha / rank * up @ down``.

    Summed in float32 and cast to the weight's dtype once. The UNet's other tensors are not touched, and at strength 0
    nothing is. Drawing costs what it did before; the original weights are kept until the result is removed and let go.
    Raises InputError for a strength that is no number and a LoRA of a UNet of other sizes.
    """
    layers = dict(projections(unet))
    totals: dict[str, Tensor] = {}
    for lora, strength in loras:
        if not math.isfinite(strength):
            raise InputError(f"the strength of a LoRA is {strength}; give a number, such as 1.0")
        _check_fit(lora, layers)
        if strength != 0:
            for name in lora.layers:
                weight = layers[name].weight
                total = totals[name] if name in totals else weight.float()
                totals[name] = total + lora.delta(name, weight.device) * strength
    return MergedLoRAs(
        [
            (layers[name], nn.Parameter(total.to(layers[name].weight.dtype), requires_grad=False))
            for name, total in totals.items()
        ]
    )


def with_loras(models: Models, loras: Sequence[tuple[Path, float]]) -> Models:
    """The same models with LoRA files merged into the UNet; ``models`` itself is left as it is.

    loras: file and strength of each. Both UNets share every tensor but the changed ones.
    Raises ModelFileError, InputError; see `load_lora`, `apply_loras`.
    """
    if not loras:
        return models
    loaded = [(load_lora(path, models.unet.config), strength) for path, strength in loras]
    for (path, _), (lora, _) in zip(loras, loaded, strict=True):
        if lora.version != models.version:
            logger.warning("%s was trained on MuseTalk %s, the UNet is of %s", path, lora.version, models.version)
    tensors = [*models.unet.parameters(), *models.unet.buffers()]
    unet = copy.deepcopy(models.unet, {id(tensor): tensor for tensor in tensors})
    apply_loras(unet, loaded)
    return replace(models, unet=unet)


def lora_patches(lora: LoRA) -> dict[str, Patch]:
    """The changes by name of the UNet's weight: ``(up, down, alpha, None, None, None)``.

    That is the tuple of weights that ComfyUI's ``comfy.weight_adapter.LoRAAdapter`` is made with (mid, DoRA scale and
    reshape are for other kinds). For a ModelPatcher around the UNet:
    ``patcher.clone().add_patches({name: LoRAAdapter(set(), patch) for name, patch in patches.items()}, strength)``.
    """
    return {
        f"{name}.weight": (layer.up, layer.down, lora.alpha, None, None, None) for name, layer in lora.layers.items()
    }


def parse_lora(text: str) -> tuple[Path, float]:
    """``FILE`` or ``FILE=STRENGTH`` from a command line; the strength is 1 by default. Raises InputError."""
    name, equals, tail = text.rpartition("=")
    if not equals or tail.lower().endswith(SUFFIX):  # the equals sign may be part of the file's name
        name, tail = text, "1"
    try:
        strength = float(tail)
    except ValueError:
        strength = math.nan
    if not name or not math.isfinite(strength):
        raise InputError(f"--lora {text}: write it as FILE or FILE=STRENGTH, such as anna{SUFFIX}=0.8")
    return Path(name), strength


def _check_fit(lora: LoRA, layers: dict[str, nn.Linear]) -> None:
    for name, change in lora.layers.items():
        wanted = tuple(layers[name].weight.shape) if name in layers else None
        found = (change.up.shape[0], change.down.shape[1])
        if wanted != found:
            has = "no such layer" if wanted is None else f"{list(wanted)}"
            raise InputError(f"the LoRA changes {name} {list(found)}, but the UNet has {has}; use its own models")
