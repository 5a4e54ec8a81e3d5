"""The perceptual loss: how far VGG19's features of two pictures lie apart, at several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pyramid import Pyramid
from .vgg19 import VGG19

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """Mean absolute difference of features, summed over the sizes, averaged over the layers (spec section 8.5).

    vgg: frozen here.
    upstream: normalise pictures as they are, in [-1, 1], as upstream does. VGG19 was trained on [0, 1], which is
        where they are brought first otherwise; the loss is then about half as large.
    size: the pictures are resized to this square first.
    scales: of the pyramid.
    layer_weights: of relu1_1 to relu5_1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        vgg: VGG19,
        *,
        upstream: bool = False,
        size: int = 224,
        scales: Sequence[float] = (1, 0.5, 0.25, 0.125),
        layer_weights: Sequence[float] = (1, 1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.vgg = vgg.requires_grad_(False)
        self.pyramid = Pyramid(scales)
        self.upstream = upstream
        self.size = size
        self.layer_weights = tuple(layer_weights)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two float [N, 3, H, W], RGB in [-1, 1], to a scalar; ``real`` gets no gradient."""
        with torch.no_grad():
            wanted = self._features(real)
        total = fake.new_zeros(())
        for found_at_size, wanted_at_size in zip(self._features(fake), wanted, strict=True):
            for weight, found, target in zip(self.layer_weights, found_at_size, wanted_at_size, strict=True):
                total = total + weight * F.l1_loss(found, target)
        return total / sum(self.layer_weights)

    def _features(self, images: Tensor) -> list[list[Tensor]]:
        resized = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        return [self.vgg(self._normalised(picture)) for picture in self.pyramid(resized)]

    def _normalised(self, picture: Tensor) -> Tensor:
        return ((picture if self.upstream else (picture + 1) / 2) - self.mean) / self.std
