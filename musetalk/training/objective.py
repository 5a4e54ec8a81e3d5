"""Everything a step minimises: losses of the frames that were drawn, and of the sample they stand in."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..models.syncnet import SyncNet
from .generator import Batch
from .losses import LossWeights, TrainingLosses
from .losses.sync import SyncLoss
from .losses.vgg19 import VGG19


class Objective(nn.Module):
    """`TrainingLosses` on the drawn frames, and the sync loss on whole samples.

    SyncNet has to see 16 frames in a row, but only some may be drawn: the others it sees as they were filmed.

    weights, vgg, syncnet, upstream: as for `TrainingLosses`.
    """

    def __init__(
        self, weights: LossWeights, *, vgg: VGG19 | None = None, syncnet: SyncNet | None = None, upstream: bool = False
    ) -> None:
        super().__init__()
        self.sync_weight = weights.sync
        self.pictures = TrainingLosses(replace(weights, sync=0.0), vgg=vgg, upstream=upstream)
        self.sync = SyncLoss(syncnet, upstream=upstream) if syncnet is not None and weights.sync > 0 else None

    @property
    def discriminators(self) -> nn.ModuleDict:
        """What learns against the generator; empty where no loss needs it."""
        return self.pictures.discriminators

    def forward(self, drawn: Tensor, batch: Batch, first: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's loss.

        drawn: float ``[B, n, 3, 256, 256]``, RGB in [-1, 1], with gradients: frames ``first`` to ``first + n`` of each
            sample. batch: of samples with T frames. step: optimiser step, from 0.
        Returns the weighted total, a scalar, and the parts that count, unweighted and detached.
        """
        frames = slice(first, first + drawn.shape[1])
        fake, real, mouths = _flat(drawn, batch, frames)
        total, parts = self.pictures(fake, real, step, mouths=mouths)
        if self.sync is not None:
            targets = batch["targets"]
            seen = torch.cat((targets[:, : frames.start], drawn, targets[:, frames.stop :]), dim=1)
            with torch.autocast(drawn.device.type, enabled=False):
                sync = self.sync(seen.flatten(0, 1).float(), batch["sync_mel"].float())
            total = total + self.sync_weight * sync
            parts["sync"] = sync.detach()
        return total, parts

    def discriminator_losses(self, drawn: Tensor, batch: Batch, first: int, step: int) -> dict[str, Tensor]:
        """The discriminators' side of the same pictures: one scalar for each that learns at this step."""
        fake, real, mouths = _flat(drawn, batch, slice(first, first + drawn.shape[1]))
        return self.pictures.discriminator_losses(fake, real, step, mouths=mouths)


def _flat(drawn: Tensor, batch: Batch, frames: slice) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(part.flatten(0, 1) for part in (drawn, batch["targets"][:, frames], batch["mouth"][:, frames]))  # type: ignore[return-value]
