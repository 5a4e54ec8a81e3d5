"""The Stable Diffusion autoencoder (KL-f8): faces to latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend
from .layers import Downsample, ResnetBlock, Upsample

NORM_EPS = 1e-6
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder (spec section 1.3); the defaults are ``sd-vae-ft-mse``."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32


class AutoencoderKL(nn.Module):
    """Encoder and decoder; latents here are *unscaled*, multiply by ``scaling_factor`` for the UNet."""

    scaling_factor: ClassVar[float] = 0.18215

    def __init__(self, config: VAEConfig, *, operations: Any = nn):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, operations=operations)
        self.decoder = Decoder(config, operations=operations)
        moments = 2 * config.latent_channels
        self.quant_conv = operations.Conv2d(moments, moments, 1)
        self.post_quant_conv = operations.Conv2d(config.latent_channels, config.latent_channels, 1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of ``images`` [B, 3, H, W], RGB in [-1, 1], H and W multiples of 8.

        Returns its mean and log-variance, each [B, 4, H/8, W/8], unscaled (spec section 4). The mean is the
        deterministic latent; a sample is ``mean + exp(logvar / 2) * noise``.
        """
        # On a CPU, GroupNorm sums a channels-last variance in one pass, which costs a flat picture (the
        # blanked lower half) three digits; with contiguous weights this keeps the whole encoder exact.
        moments = self.quant_conv(self.encoder(images.contiguous()))
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, 8h, 8w], RGB about [-1, 1] and not clamped, from unscaled ``latents`` [B, 4, h, w].

        On a CPU one image at a time is faster than a batch: the activations then stay near the cache.
        """
        return self.decoder(self.post_quant_conv(latents))


class Encoder(nn.Module):
    """Image to the posterior's raw moments."""

    def __init__(self, config: VAEConfig, *, operations: Any = nn):
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = operations.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            resample = None if last else Downsample(width, pad_end_only=True, operations=operations)
            block = DownBlock(channels, width, config.layers_per_block, groups, resample, operations)
            self.down_blocks.append(block)
            channels = width
        self.mid_block = MidBlock(channels, groups, operations)
        self.conv_norm_out = operations.GroupNorm(groups, channels, NORM_EPS)
        self.conv_out = operations.Conv2d(channels, 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents to image."""

    def __init__(self, config: VAEConfig, *, operations: Any = nn):
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        channels = widths[0]
        self.conv_in = operations.Conv2d(config.latent_channels, channels, 3, padding=1)
        self.mid_block = MidBlock(channels, groups, operations)
        self.up_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            resample = None if level == len(widths) - 1 else Upsample(width, operations=operations)
            block = UpBlock(channels, width, config.layers_per_block + 1, groups, resample, operations)
            self.up_blocks.append(block)
            channels = width
        self.conv_norm_out = operations.GroupNorm(groups, channels, NORM_EPS)
        self.conv_out = operations.Conv2d(channels, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class DownBlock(nn.Module):
    """Resnets of one resolution of the encoder, then a halving except at the last."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        layers: int,
        groups: int,
        resample: Downsample | None,
        operations: Any,
    ):
        super().__init__()
        self.resnets = _resnets(channels_in, channels_out, layers, groups, operations)
        self.downsamplers = None if resample is None else nn.ModuleList([resample])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.downsamplers is None else self.downsamplers[0](x)


class UpBlock(nn.Module):
    """Resnets of one resolution of the decoder, then a doubling except at the last."""

    def __init__(
        self, channels_in: int, channels_out: int, layers: int, groups: int, resample: Upsample | None, operations: Any
    ):
        super().__init__()
        self.resnets = _resnets(channels_in, channels_out, layers, groups, operations)
        self.upsamplers = None if resample is None else nn.ModuleList([resample])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class MidBlock(nn.Module):
    """Resnet, attention, resnet at the latents' resolution."""

    def __init__(self, channels: int, groups: int, operations: Any):
        super().__init__()
        self.attentions = nn.ModuleList([PixelAttention(channels, groups, operations)])
        self.resnets = _resnets(channels, channels, 2, groups, operations)

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class PixelAttention(nn.Module):
    """Single-head self-attention over all pixels, around a skip."""

    def __init__(self, channels: int, groups: int, operations: Any):
        super().__init__()
        self.group_norm = operations.GroupNorm(groups, channels, NORM_EPS)
        self.to_q = operations.Linear(channels, channels)
        self.to_k = operations.Linear(channels, channels)
        self.to_v = operations.Linear(channels, channels)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels)])  # a list, as in the published names

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1)  # [B, 1 head, pixels, C]
        mixed = attend(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + self.to_out[0](mixed.squeeze(1)).unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _resnets(channels_in: int, channels_out: int, count: int, groups: int, operations: Any) -> nn.ModuleList:
    inputs = [channels_in] + [channels_out] * (count - 1)
    return nn.ModuleList(
        ResnetBlock(channels, channels_out, groups, NORM_EPS, operations=operations) for channels in inputs
    )
