"""The patch discriminator: says of every patch of a picture whether it looks real (spec section 8.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .pyramid import Pyramid

_SLOPE = 0.2


class Judgement(NamedTuple):
    """What a discriminator makes of pictures: the output of every block, and the scores [N, 1, h, w], 1 for real."""

    features: list[Tensor]
    scores: Tensor


class MultiScaleDiscriminator(nn.Module):
    """One patch discriminator for each scale of the picture.

    scales: upstream uses the picture itself alone.
    blocks, first_channels, most_channels, spectral: of each discriminator; the defaults are upstream's,
        2,758,849 parameters.
    """

    def __init__(
        self,
        scales: Sequence[float] = (1,),
        *,
        blocks: int = 4,
        first_channels: int = 64,
        most_channels: int = 512,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.pyramid = Pyramid(scales)
        widths = [min(first_channels * 2**block, most_channels) for block in range(blocks)]
        self.judges = nn.ModuleList(PatchDiscriminator(widths, spectral) for _ in scales)

    def forward(self, images: Tensor) -> list[Judgement]:
        """RGB in [-1, 1], float [N, 3, H, W]; the scores are 22 x 22 for 224 x 224 and 26 x 26 for 256 x 256."""
        return [judge(picture) for judge, picture in zip(self.judges, self.pyramid(images), strict=True)]


class PatchDiscriminator(nn.Module):
    """Convolutions without padding, halving in between, to a score for every patch.

    widths: channels of the blocks.
    spectral: keep every convolution's largest singular value at 1.
    """

    def __init__(self, widths: Sequence[int], spectral: bool) -> None:
        super().__init__()
        last = len(widths) - 1
        inputs = (3, *widths[:-1])
        self.blocks = nn.ModuleList(
            _Block(channels_in, channels_out, normalise=i > 0, halve=i < last, spectral=spectral)
            for i, (channels_in, channels_out) in enumerate(zip(inputs, widths, strict=True))
        )
        self.score = _convolution(widths[-1], 1, 1, spectral)

    def forward(self, images: Tensor) -> Judgement:
        features: list[Tensor] = []
        x = images
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return Judgement(features, self.score(x))


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, *, normalise: bool, halve: bool, spectral: bool) -> None:
        super().__init__()
        self.conv = _convolution(channels_in, channels_out, 4, spectral)
        self.norm = nn.InstanceNorm2d(channels_out, affine=True) if normalise else None
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        x = F.leaky_relu(x, _SLOPE)
        return F.avg_pool2d(x, 2) if self.halve else x


def _convolution(channels_in: int, channels_out: int, kernel: int, spectral: bool) -> nn.Module:
    convolution = nn.Conv2d(channels_in, channels_out, kernel)
    return spectral_norm(convolution) if spectral else convolution
