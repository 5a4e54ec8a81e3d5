"""How good the averaged weights are: fixed samples, drawn as inference draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..inpainting import predict_latents
from ..latents import decode_batch
from ..models.load import Models
from .generator import Batch, Generator, mask_lower_half
from .objective import Objective

_SHOWN_FRAMES = 8


@dataclass(frozen=True)
class Validation:
    """losses: mean over all frames. collage: uint8 RGB ``[1024, 256 n, 3]``, rows masked, reference, drawn, filmed."""

    losses: dict[str, float]
    collage: np.ndarray


@torch.no_grad()
def validate(models: Models, generator: Generator, objective: Objective, batches: list[Batch]) -> Validation:
    """Draw every frame of the batches and compare it with what was filmed.

    models: whose UNet draws, by the path `musetalk lipsync` takes. generator: prepares the inputs.
    losses: ``l1`` of the whole picture in [-1, 1], ``l1_lower`` of the half that was hidden, and where the objective
    has them ``perceptual`` and ``sync``.
    """
    sums: dict[str, float] = {}
    frames = 0
    collage = None
    for batch in batches:
        batch = {name: value.to(models.device) for name, value in batch.items() if isinstance(value, Tensor)}
        inputs = generator.prepare(batch)
        faces = decode_batch(models, predict_latents(models, inputs.latents, inputs.windows))
        drawn = torch.from_numpy(faces).to(models.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        for name, loss in _compare(drawn, inputs.targets, batch, objective).items():
            sums[name] = sums.get(name, 0.0) + float(loss) * len(drawn)
        frames += len(drawn)
        if collage is None:
            collage = make_collage(
                mask_lower_half(inputs.targets), batch["references"].flatten(0, 1), drawn, inputs.targets
            )
    assert collage is not None, "validation needs at least one batch"
    return Validation({name: total / frames for name, total in sums.items()}, collage)


def _compare(drawn: Tensor, filmed: Tensor, batch: Batch, objective: Objective) -> dict[str, Tensor]:
    difference = (drawn - filmed).abs()
    losses = {"l1": difference.mean(), "l1_lower": difference[:, :, difference.shape[2] // 2 :].mean()}
    if objective.pictures.perceptual is not None:
        losses["perceptual"] = objective.pictures.perceptual(drawn, filmed)
    if objective.sync is not None:
        losses["sync"] = objective.sync(drawn, batch["sync_mel"])
    return losses


def make_collage(*rows: Tensor) -> np.ndarray:
    """Rows of pictures ``[N, 3, H, W]`` in [-1, 1], the first eight of each, as one uint8 RGB picture."""
    shown = [torch.cat(list(row[:_SHOWN_FRAMES].float().cpu()), dim=2) for row in rows]
    picture = torch.cat(shown, dim=1).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
