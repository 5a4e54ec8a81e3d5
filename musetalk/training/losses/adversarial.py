"""Generator against discriminator: least squares, with feature matching (spec section 8.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .discriminator import Judgement


class AdversarialLoss(nn.Module):
    """Both sides of one discriminator.

    discriminator: a `MultiScaleDiscriminator`, which may be wrapped for several GPUs; trained by
        `discriminator_loss`, left without gradients by `generator_loss`.
    generator_size: resize the pictures to this square before the generator's side is judged, as upstream does (224)
        though it trains the discriminator on 256; None judges both sides at the size they have.
    layer_weights: of feature matching, one for each block.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        *,
        generator_size: int | None = None,
        layer_weights: Sequence[float] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.generator_size = generator_size
        self.layer_weights = tuple(layer_weights)

    def generator_loss(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Two float [N, 3, H, W], RGB in [-1, 1] -> the GAN loss and the feature matching loss, scalars."""
        with frozen(self.discriminator):
            judged_fake = self.discriminator(self._resized(fake))
            with torch.no_grad():
                judged_real = self.discriminator(self._resized(real))
        return fooling_loss(judged_fake), feature_matching_loss(judged_fake, judged_real, self.layer_weights)

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """The same pictures -> the discriminator's loss, a scalar; neither picture gets a gradient."""
        return telling_apart_loss(self.discriminator(fake.detach()), self.discriminator(real.detach()))

    def _resized(self, images: Tensor) -> Tensor:
        if self.generator_size is None:
            return images
        size = (self.generator_size, self.generator_size)
        return F.interpolate(images, size, mode="bilinear", align_corners=False)


def fooling_loss(fake: Sequence[Judgement]) -> Tensor:
    """LSGAN, the generator's side: mean (1 - score)^2, summed over the scales."""
    return torch.stack([(1 - judged.scores).square().mean() for judged in fake]).sum()


def telling_apart_loss(fake: Sequence[Judgement], real: Sequence[Judgement]) -> Tensor:
    """LSGAN, the discriminator's side: mean (1 - real score)^2 + mean (fake score)^2, summed over the scales."""
    losses = [
        (1 - judged_real.scores).square().mean() + judged_fake.scores.square().mean()
        for judged_fake, judged_real in zip(fake, real, strict=True)
    ]
    return torch.stack(losses).sum()


def feature_matching_loss(
    fake: Sequence[Judgement], real: Sequence[Judgement], layer_weights: Sequence[float]
) -> Tensor:
    """Mean absolute difference of every block's output, weighted and summed over blocks and scales."""
    losses = [
        weight * F.l1_loss(found, wanted.detach())
        for judged_fake, judged_real in zip(fake, real, strict=True)
        for weight, found, wanted in zip(layer_weights, judged_fake.features, judged_real.features, strict=True)
    ]
    return torch.stack(losses).sum()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What is computed inside gives no gradient to the network's parameters; it still passes through them."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
