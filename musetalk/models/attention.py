"""Attention blocks of the UNet: a transformer over the pixels that also listens to the audio tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP_NORM_EPS = 1e-6  # differs from the resnet blocks' 1e-5 in the published network
# Weights of all heads that are computed at once: 8 MB in bf16.
_WHOLE_WEIGHTS = 1 << 22


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: [B, heads, n, d] from queries [B, heads, n, d], keys and values [B, heads, m, d].

    bias: added to the logits, [B, 1, 1, m].
    """
    weights = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    if query.device.type == "cpu" and query.dtype is torch.bfloat16 and weights <= _WHOLE_WEIGHTS:
        # PyTorch's fused kernel for CPUs takes two to three times as long in this precision.
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return (logits if bias is None else logits + bias).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class Attention(nn.Module):
    """Multi-head attention; queries from ``x``, keys and values from ``context`` (``x`` itself when None)."""

    def __init__(self, channels: int, context_channels: int, heads: int, *, operations: Any = nn):
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(context_channels, channels, bias=False)
        self.to_v = operations.Linear(context_channels, channels, bias=False)
        # A list of one: the published names carry the index ("to_out.0"); index 1 was a dropout.
        self.to_out = nn.ModuleList([operations.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.to_q(x), self.to_k(source), self.to_v(source))
        )
        mixed = attend(query, key, value)
        return self.to_out[0](mixed.transpose(1, 2).flatten(2))


class GatedGELU(nn.Module):
    """One linear layer whose second half gates the first."""

    def __init__(self, channels_in: int, channels_out: int, *, operations: Any = nn):
        super().__init__()
        self.proj = operations.Linear(channels_in, 2 * channels_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two linear layers, four times wider inside. ``net.1`` is where the published network had a dropout."""

    def __init__(self, channels: int, *, operations: Any = nn):
        super().__init__()
        gate = GatedGELU(channels, 4 * channels, operations=operations)
        self.net = nn.Sequential(gate, nn.Identity(), operations.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the audio, feed-forward; each after a LayerNorm, each residual."""

    def __init__(self, channels: int, context_channels: int, heads: int, *, operations: Any = nn):
        super().__init__()
        self.norm1 = operations.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, heads, operations=operations)
        self.norm2 = operations.LayerNorm(channels)
        self.attn2 = Attention(channels, context_channels, heads, operations=operations)
        self.norm3 = operations.LayerNorm(channels)
        self.ff = FeedForward(channels, operations=operations)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the pixels of a feature map, between two 1x1 convolutions, around a skip."""

    def __init__(self, channels: int, context_channels: int, heads: int, groups: int, *, operations: Any = nn):
        super().__init__()
        self.norm = operations.GroupNorm(groups, channels, GROUP_NORM_EPS)
        self.proj_in = operations.Conv2d(channels, channels, 1)
        block = TransformerBlock(channels, context_channels, heads, operations=operations)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = operations.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``x`` [B, C, H, W], ``context`` [B, tokens, context_channels] -> [B, C, H, W]."""
        height, width = x.shape[-2:]
        # Pixels as tokens by way of channels-last: no copy where the weights are channels-last already.
        tokens = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).flatten(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2))
