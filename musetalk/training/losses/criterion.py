"""All losses of a training step in one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...models.syncnet import SyncNet
from .adversarial import AdversarialLoss
from .discriminator import MultiScaleDiscriminator
from .mouth import crop_mouths
from .perceptual import PerceptualLoss
from .sync import SyncLoss
from .vgg19 import VGG19
from .weights import LossWeights

_UPSTREAM_GENERATOR_SIZE = 224


class TrainingLosses(nn.Module):
    """The generator's loss, and the losses of the discriminators that belong to it (spec section 8.5).

    weights: what counts. Only what counts at some step is built.
    vgg, syncnet: needed when the perceptual and the sync loss count; frozen here.
    upstream: keep upstream's quirks: VGG19 sees [-1, 1] (`PerceptualLoss`), the generator is judged at 224
        and the discriminator trained at 256 (`AdversarialLoss`), the sync loss is clamped (`mismatch_loss`).
    discriminators: those that are built, by name (``face``, ``mouth``): give these to an optimiser and keep their
        state in the checkpoint. The state of this module would hold VGG19 and SyncNet as well.

    Everything is computed in float32, outside any autocast. Raises InputError when a network is missing.
    """

    def __init__(
        self,
        weights: LossWeights,
        *,
        vgg: VGG19 | None = None,
        syncnet: SyncNet | None = None,
        upstream: bool = False,
    ) -> None:
        super().__init__()
        if weights.perceptual > 0 and vgg is None:
            raise InputError(f"the perceptual loss has weight {weights.perceptual} but there is no VGG19; load_vgg19()")
        if weights.sync > 0 and syncnet is None:
            raise InputError(f"the sync loss has weight {weights.sync} but there is no SyncNet; load_syncnet()")
        self.weights = weights
        self.perceptual = PerceptualLoss(vgg, upstream=upstream) if vgg is not None and weights.perceptual > 0 else None
        self.sync = SyncLoss(syncnet, upstream=upstream) if syncnet is not None and weights.sync > 0 else None
        self.discriminators = nn.ModuleDict()
        if weights.gan > 0 or weights.feature_matching > 0:
            self.discriminators["face"] = MultiScaleDiscriminator()
        if weights.mouth_gan > 0 or weights.mouth_feature_matching > 0:
            self.discriminators["mouth"] = MultiScaleDiscriminator()
        self._generator_size = _UPSTREAM_GENERATOR_SIZE if upstream else None

    def forward(
        self, fake: Tensor, real: Tensor, step: int, *, mouths: Tensor | None = None, sync_mel: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's side.

        fake, real: float [N, 3, 256, 256], RGB in [-1, 1]; for the sync loss N = 16 B, samples after one another.
        step: optimiser step, from 0.
        mouths: int64 [N, 4] x0 y0 x1 y1, see `mouth_rectangle`; needed when the mouth counts.
        sync_mel: float [B, 80, 52] or [B, 1, 80, 52]; needed when the sync loss counts.
        Returns the weighted total and the parts that count at this step, unweighted and detached. No gradient
        reaches VGG19, SyncNet or the discriminators.
        """
        counting = self.weights.at(step)
        parts: dict[str, Tensor] = {}
        with torch.autocast(fake.device.type, enabled=False):
            fake, real = fake.float(), real.float()
            if "l1" in counting:
                parts["l1"] = F.l1_loss(fake, real)
            if self.perceptual is not None:
                parts["perceptual"] = self.perceptual(fake, real)
            if "gan" in counting or "feature_matching" in counting:
                parts["gan"], parts["feature_matching"] = self._adversarial("face").generator_loss(fake, real)
            if "mouth_gan" in counting or "mouth_feature_matching" in counting:
                pictures = _mouths_of(fake, real, mouths)
                gan, matching = self._adversarial("mouth").generator_loss(*pictures)
                parts["mouth_gan"], parts["mouth_feature_matching"] = gan, matching
            if self.sync is not None:
                if sync_mel is None:
                    raise InputError("the sync loss counts but the batch has no sync_mel; set its weight to 0")
                parts["sync"] = self.sync(fake, sync_mel.float())
            return self.weights.total({name: part for name, part in parts.items() if name in counting}, step)

    def discriminator_losses(
        self, fake: Tensor, real: Tensor, step: int, *, mouths: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The discriminators' side: the same pictures to one scalar for each discriminator that learns at this step.

        Empty before ``gan_start``, and for a discriminator that only matches features: its weights stay random.
        """
        counting = self.weights.at(step)
        losses: dict[str, Tensor] = {}
        with torch.autocast(fake.device.type, enabled=False):
            fake, real = fake.detach().float(), real.float()
            if "gan" in counting:
                losses["face"] = self._adversarial("face").discriminator_loss(fake, real)
            if "mouth_gan" in counting:
                pictures = _mouths_of(fake, real, mouths)
                losses["mouth"] = self._adversarial("mouth").discriminator_loss(*pictures)
        return losses

    def _adversarial(self, name: str) -> AdversarialLoss:
        # Made here, not kept, so that a trainer may wrap the discriminators (for several GPUs) in place.
        return AdversarialLoss(self.discriminators[name], generator_size=self._generator_size)


def _mouths_of(fake: Tensor, real: Tensor, mouths: Tensor | None) -> tuple[Tensor, Tensor]:
    if mouths is None:
        raise InputError("the mouth losses count but the batch has no mouth rectangles; set their weights to 0")
    return crop_mouths(fake, mouths), crop_mouths(real, mouths)
