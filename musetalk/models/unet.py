"""The inpainting UNet: masked and reference latents, and audio tokens, to finished latents in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SpatialTransformer
from .layers import Downsample, ResnetBlock, Upsample

NORM_EPS = 1e-5


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the UNet (spec section 1.2). The defaults are the published network, the same for v1.0 and
    v1.5.

    ``attention`` says for each resolution, from fine to coarse, whether its blocks attend to the audio; the
    up path mirrors it. ``heads`` is the number of attention heads at every resolution (the published JSON
    calls it ``attention_head_dim``).
    """

    in_channels: int = 8
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    cross_attention_dim: int = 384
    heads: int = 8
    norm_num_groups: int = 32

    @property
    def time_channels(self) -> int:
        return 4 * self.block_out_channels[0]


class Seen(NamedTuple):
    """How far the UNet comes without the sound: up to the first block that listens to it.

    time: [1, time_channels]. x: [B, C, h, w], its input. skips: outputs of the way down so far, [B, ...] each.
    """

    time: Tensor
    x: Tensor
    skips: tuple[Tensor, ...]


class UNet(nn.Module):
    """Stable Diffusion 1.x's UNet with MuseTalk's sizes, always at timestep 0 (spec sections 1.2 and 5)."""

    def __init__(self, config: UNetConfig, *, operations: Any = nn):
        super().__init__()
        self.config = config
        widths = config.block_out_channels
        self.conv_in = operations.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], config.time_channels, operations=operations)
        self.down_blocks = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        coarsest = len(widths) - 1
        channels = widths[0]
        skips = [channels]
        for level, width in enumerate(widths):
            inputs = [channels] + [width] * (config.layers_per_block - 1)
            self.down_blocks.append(DownBlock(config, level, inputs, operations, downsample=level < coarsest))
            channels = width
            skips += [width] * (config.layers_per_block + (level < coarsest))
        self.mid_block = MidBlock(config, operations)
        # Every resnet of the way up reads one more output of the way down, the last one first.
        for level in range(coarsest, -1, -1):
            width = widths[level]
            inputs = [channels + skips.pop()] + [width + skips.pop() for _ in range(config.layers_per_block)]
            self.up_blocks.append(UpBlock(config, level, inputs, operations, upsample=level > 0))
            channels = width
        self.conv_norm_out = operations.GroupNorm(config.norm_num_groups, widths[0], NORM_EPS)
        self.conv_out = operations.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Predict the latents of the talking face in one pass.

        latents: [B, 8, h, w], four masked then four reference channels, scaled (0.18215); 32 x 32 as trained,
            other sides must be multiples of 8 (2 ** (levels - 1) in a network of another depth).
        tokens: [B, 50, cross_attention_dim], audio features after positional encoding.
        Both in the dtype and on the device of the weights.
        Returns [B, 4, h, w]: the scaled latents themselves, not noise.
        """
        return self.listen(self.look(latents), tokens)

    def look(self, latents: Tensor) -> Seen:
        """The part of ``forward`` that is the same for every sound, for who has many for one picture."""
        time = self.time_embedding(latents)
        x = self.conv_in(latents)
        skips = [x]
        first = self._first_listening
        for block in self.down_blocks[:first]:
            x = block(x, time, None, skips)
        if first < len(self.down_blocks):
            x = cast(DownBlock, self.down_blocks[first]).resnets[0](x, time)
        return Seen(time, x, tuple(skips))

    def listen(self, seen: Seen, tokens: Tensor) -> Tensor:
        """The rest of ``forward``; ``seen`` is of as many pictures as there are sounds in ``tokens``."""
        time, x, skips = seen.time, seen.x, list(seen.skips)
        for level, block in enumerate(self.down_blocks):
            if level >= self._first_listening:
                x = block(x, time, tokens, skips, begun=level == self._first_listening)
        x = self.mid_block(x, time, tokens)
        for block in self.up_blocks:
            x = block(x, time, tokens, skips)
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    @property
    def _first_listening(self) -> int:
        """The first level of the way down that attends to the audio; the number of levels where none does."""
        return next((level for level, attends in enumerate(self.config.attention) if attends), len(self.down_blocks))


class TimeEmbedding(nn.Module):
    """The embedding of timestep 0, the only one MuseTalk knows."""

    def __init__(self, channels: int, time_channels: int, *, operations: Any = nn):
        super().__init__()
        self.linear_1 = operations.Linear(channels, time_channels)
        self.linear_2 = operations.Linear(time_channels, time_channels)

    def forward(self, like: Tensor) -> Tensor:
        """[1, time_channels] in the dtype and on the device of ``like``."""
        # Sinusoids of t = 0, cosines first (flip_sin_to_cos): whatever the frequency, cos is 1 and sin is 0.
        half = self.linear_1.in_features // 2
        sinusoids = torch.cat((like.new_ones(1, half), like.new_zeros(1, half)), dim=1)
        return self.linear_2(F.silu(self.linear_1(sinusoids)))


class _Stage(nn.Module):
    """The resnets of one resolution, each followed by a transformer where that resolution attends."""

    def __init__(self, config: UNetConfig, level: int, inputs: list[int], operations: Any):
        super().__init__()
        width = config.block_out_channels[level]
        self.resnets = nn.ModuleList(_resnet(config, channels, width, operations) for channels in inputs)
        self.attentions = (
            nn.ModuleList(_transformer(config, width, operations) for _ in inputs) if config.attention[level] else None
        )

    def layer(self, index: int, x: Tensor, time: Tensor, tokens: Tensor | None, *, resnet_done: bool = False) -> Tensor:
        if not resnet_done:
            x = self.resnets[index](x, time)
        return x if self.attentions is None else self.attentions[index](x, tokens)


class DownBlock(_Stage):
    """One resolution of the way down; pushes each of its outputs on ``skips``."""

    def __init__(self, config: UNetConfig, level: int, inputs: list[int], operations: Any, *, downsample: bool):
        super().__init__(config, level, inputs, operations)
        width = config.block_out_channels[level]
        resample = Downsample(width, pad_end_only=False, operations=operations) if downsample else None
        self.downsamplers = None if resample is None else nn.ModuleList([resample])

    def forward(
        self, x: Tensor, time: Tensor, tokens: Tensor | None, skips: list[Tensor], *, begun: bool = False
    ) -> Tensor:
        """``tokens``: None where this resolution does not attend. ``begun``: ``x`` is the first resnet's output."""
        for index in range(len(self.resnets)):
            x = self.layer(index, x, time, tokens, resnet_done=begun and index == 0)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class UpBlock(_Stage):
    """One resolution of the way up; pops one of ``skips`` for each resnet."""

    def __init__(self, config: UNetConfig, level: int, inputs: list[int], operations: Any, *, upsample: bool):
        super().__init__(config, level, inputs, operations)
        resample = Upsample(config.block_out_channels[level], operations=operations) if upsample else None
        self.upsamplers = None if resample is None else nn.ModuleList([resample])

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor, skips: list[Tensor]) -> Tensor:
        for index in range(len(self.resnets)):
            x = self.layer(index, torch.cat((x, skips.pop()), dim=1), time, tokens)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class MidBlock(nn.Module):
    """Resnet, transformer, resnet at the coarsest resolution."""

    def __init__(self, config: UNetConfig, operations: Any):
        super().__init__()
        width = config.block_out_channels[-1]
        self.attentions = nn.ModuleList([_transformer(config, width, operations)])
        self.resnets = nn.ModuleList(_resnet(config, width, width, operations) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, time), tokens)
        return self.resnets[1](x, time)


def _resnet(config: UNetConfig, channels_in: int, channels_out: int, operations: Any) -> ResnetBlock:
    groups, time = config.norm_num_groups, config.time_channels
    return ResnetBlock(channels_in, channels_out, groups, NORM_EPS, time, operations=operations)


def _transformer(config: UNetConfig, width: int, operations: Any) -> SpatialTransformer:
    heads, groups = config.heads, config.norm_num_groups
    return SpatialTransformer(width, config.cross_attention_dim, heads, groups, operations=operations)
