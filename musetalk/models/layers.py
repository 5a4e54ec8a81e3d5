"""Convolutional blocks that the UNet and the autoencoder share.

Parameter names are those of the published state dicts, so a block's attribute names are part of the file
format.

Every network takes its layers from ``operations``: a namespace with the names of ``torch.nn``. A host that streams
weights to the device passes its own, whose layers fetch their weights when they run.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ResnetBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, around a skip; the UNet adds a time embedding in between.

    ``time_channels`` None leaves the time path out, as in the autoencoder.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        groups: int,
        eps: float,
        time_channels: int | None = None,
        *,
        operations: Any = nn,
    ):
        super().__init__()
        self.norm1 = operations.GroupNorm(groups, channels_in, eps)
        self.conv1 = operations.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time_emb_proj = None if time_channels is None else operations.Linear(time_channels, channels_out)
        self.norm2 = operations.GroupNorm(groups, channels_out, eps)
        self.conv2 = operations.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = operations.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """``x`` [B, C_in, H, W] and, in the UNet, ``time`` [1 or B, time_channels] -> [B, C_out, H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None and time is not None:
            h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """Halve height and width with a strided convolution.

    ``pad_end_only`` pads one pixel on the right and at the bottom, as the autoencoder was trained; the UNet
    pads every side.
    """

    def __init__(self, channels: int, *, pad_end_only: bool, operations: Any = nn):
        super().__init__()
        self.pad_end_only = pad_end_only
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, padding=0 if pad_end_only else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.pad_end_only else x)


class Upsample(nn.Module):
    """Double height and width by repeating pixels, then convolve."""

    def __init__(self, channels: int, *, operations: Any = nn):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
