"""DWPose: RTMPose-l, the whole-body landmark network (133 points) in its 288 x 384 form (spec section 3.1)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEYPOINTS = 133
INPUT_WIDTH, INPUT_HEIGHT = 288, 384
BINS_PER_PIXEL = 2
_CELLS = (INPUT_WIDTH // 32) * (INPUT_HEIGHT // 32)


class DWPose(nn.Module):
    """CSPNeXt-l and the RTMPose head; attribute names are those of the published state dict.

    operations: the namespace the convolutions and linear layers come from (see `layers`); normalisation is always
        plain, as in the face parser.
    """

    def __init__(self, *, operations: Any = nn) -> None:
        super().__init__()
        self.backbone = CSPNeXt(operations)
        self.head = Head(operations)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Where each point is along x and along y, as logits over bins of half an input pixel.

        images: float [B, 3, 384, 288], RGB in 0..255 less ImageNet's mean, over its standard deviation.
        Returns [B, 133, 576] for x and [B, 133, 768] for y.
        """
        return self.head(self.backbone(images))


class ConvBNSiLU(nn.Module):
    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, operations: Any
    ):
        super().__init__()
        self.conv = operations.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """A 5 x 5 convolution of each channel, then one across channels."""

    def __init__(self, channels: int, operations: Any):
        super().__init__()
        self.depthwise_conv = ConvBNSiLU(channels, channels, 5, groups=channels, operations=operations)
        self.pointwise_conv = ConvBNSiLU(channels, channels, operations=operations)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class CSPNeXtBlock(nn.Module):
    def __init__(self, channels: int, residual: bool, operations: Any):
        super().__init__()
        self.conv1 = ConvBNSiLU(channels, channels, 3, operations=operations)
        self.conv2 = SeparableConv(channels, operations)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out + x if self.residual else out


class ChannelAttention(nn.Module):
    def __init__(self, channels: int, operations: Any):
        super().__init__()
        self.fc = operations.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Half of the channels go through the blocks, half past them."""

    def __init__(self, channels: int, blocks: int, residual: bool, operations: Any):
        super().__init__()
        half = channels // 2
        self.main_conv = ConvBNSiLU(channels, half, operations=operations)
        self.short_conv = ConvBNSiLU(channels, half, operations=operations)
        self.final_conv = ConvBNSiLU(channels, channels, operations=operations)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(half, residual, operations) for _ in range(blocks)))
        self.attention = ChannelAttention(channels, operations)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat((self.blocks(self.main_conv(x)), self.short_conv(x)), dim=1)
        return self.final_conv(self.attention(joined))


class SpatialPyramidPooling(nn.Module):
    def __init__(self, channels: int, operations: Any):
        super().__init__()
        self.conv1 = ConvBNSiLU(channels, channels // 2, operations=operations)
        self.conv2 = ConvBNSiLU(channels * 2, channels, operations=operations)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(F.max_pool2d(x, kernel, 1, kernel // 2) for kernel in (5, 9, 13))], dim=1))


class CSPNeXt(nn.Module):
    """The backbone: [B, 3, 384, 288] to features [B, 1024, 12, 9]."""

    def __init__(self, operations: Any):
        super().__init__()
        self.stem = nn.Sequential(
            ConvBNSiLU(3, 32, 3, 2, operations=operations),
            ConvBNSiLU(32, 32, 3, operations=operations),
            ConvBNSiLU(32, 64, 3, operations=operations),
        )
        self.stage1 = _stage(64, 128, 3, operations)
        self.stage2 = _stage(128, 256, 6, operations)
        self.stage3 = _stage(256, 512, 6, operations)
        self.stage4 = nn.Sequential(
            ConvBNSiLU(512, 1024, 3, 2, operations=operations),
            SpatialPyramidPooling(1024, operations),
            CSPLayer(1024, 3, False, operations),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))


def _stage(channels_in: int, channels_out: int, blocks: int, operations: Any) -> nn.Sequential:
    return nn.Sequential(
        ConvBNSiLU(channels_in, channels_out, 3, 2, operations=operations),
        CSPLayer(channels_out, blocks, True, operations),
    )


class ScaleNorm(nn.Module):
    """Divide by the root mean square over the last axis, of ``width``."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = width**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
        return x / rms.clamp(min=1e-5) * self.g


class Scale(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GatedAttention(nn.Module):
    """The gated attention unit in which the points see each other: tokens [B, 133, 256] to the same."""

    def __init__(self, channels: int, inner: int, keys: int, operations: Any):
        super().__init__()
        self.split = (inner, inner, keys)
        self.ln = ScaleNorm(channels)
        self.uv = operations.Linear(channels, 2 * inner + keys, bias=False)
        self.gamma = nn.Parameter(torch.ones(2, keys))
        self.beta = nn.Parameter(torch.zeros(2, keys))
        self.o = operations.Linear(inner, channels, bias=False)
        self.res_scale = Scale(channels)

    def forward(self, x: Tensor) -> Tensor:
        gate, values, base = F.silu(self.uv(self.ln(x))).split(self.split, dim=2)
        # Hosts that stream weights overlook parameters that lie beside submodules, so they may be elsewhere.
        queries, keys = (base.unsqueeze(2) * self.gamma.to(base) + self.beta.to(base)).unbind(2)
        attention = F.relu(queries @ keys.transpose(1, 2) / math.sqrt(base.shape[2])).square()
        return self.res_scale(x) + self.o(gate * (attention @ values))


class Head(nn.Module):
    """A token per point, attention among them, and a classifier over the bins of each axis."""

    def __init__(self, operations: Any):
        super().__init__()
        self.final_layer = operations.Conv2d(1024, KEYPOINTS, 7, padding=3)
        self.mlp = nn.Sequential(ScaleNorm(_CELLS), operations.Linear(_CELLS, 256, bias=False))
        self.gau = GatedAttention(256, 512, 128, operations)
        self.cls_x = operations.Linear(256, INPUT_WIDTH * BINS_PER_PIXEL, bias=False)
        self.cls_y = operations.Linear(256, INPUT_HEIGHT * BINS_PER_PIXEL, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.gau(self.mlp(self.final_layer(features).flatten(2)))
        return self.cls_x(tokens), self.cls_y(tokens)
