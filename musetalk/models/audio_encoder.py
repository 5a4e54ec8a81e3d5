"""The encoder half of Whisper: log-mel spectrogram to hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .attention import attend


@dataclass(frozen=True)
class WhisperConfig:
    """Sizes of the encoder; the defaults are ``whisper-tiny``."""

    mel_bins: int = 80
    channels: int = 384
    layers: int = 4
    heads: int = 6
    ffn_channels: int = 1536
    positions: int = 1500


class WhisperEncoder(nn.Module):
    """Two convolutions, a position table and pre-norm transformer layers (spec section 2.1, step 3)."""

    def __init__(self, config: WhisperConfig, *, operations: Any = nn):
        super().__init__()
        self.config = config
        self.conv1 = operations.Conv1d(config.mel_bins, config.channels, 3, padding=1)
        self.conv2 = operations.Conv1d(config.channels, config.channels, 3, stride=2, padding=1)
        self.embed_positions = operations.Embedding(config.positions, config.channels)
        self.layers = nn.ModuleList(EncoderLayer(config, operations=operations) for _ in range(config.layers))
        self.layer_norm = operations.LayerNorm(config.channels)

    def forward(
        self,
        mel: Tensor,
        steps: Tensor | None = None,
        weights: Tensor | None = None,
        wanted: slice | None = None,
    ) -> Tensor:
        """Hidden states of a 30 s log-mel segment.

        mel: [B, 80, 3000] at 100 steps a second, in the dtype and on the device of the weights.
        steps, weights: only these of the 1500 steps, int64 [n], as an approximation for sound that is still arriving;
            to the others each of them counts as often as its weight says, float32 [n]. Without them the encoder is the
            published one.
        wanted: only the states of these of the steps that are looked at.
        Returns [B, 1500, layers + 1, channels] at 50 steps a second, [B, 1500, 5, 384] as published: the inputs of
        all layers, then the last output after the final LayerNorm; of ``steps`` and ``wanted`` as many as they are.
        Raises InputError for a segment of another shape: the position table has exactly 1500 rows.
        """
        config = self.config
        if mel.ndim != 3 or tuple(mel.shape[1:]) != (config.mel_bins, 2 * config.positions):
            raise InputError(
                f"log-mel segment has shape {tuple(mel.shape)}; the audio encoder needs "
                f"[batch, {config.mel_bins}, {2 * config.positions}], pad the sound to 30 s"
            )
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        if steps is None:
            steps = torch.arange(config.positions, device=x.device)
        else:
            x = x[:, steps]
        x = x + self.embed_positions(steps).to(x.dtype)
        # A key that counts w times has w times the share of the softmax: log w more before it.
        bias = None if weights is None else weights.log().to(x.dtype).expand(len(x), 1, 1, -1)
        wanted = wanted or slice(None)
        states = []
        *earlier, last = self.layers
        for layer in earlier:
            states.append(x[:, wanted])
            x = layer(x, bias)
        # Nobody listens to what the last layer says of the other steps.
        states += [x[:, wanted], self.layer_norm(last(x, bias, wanted))]
        return torch.stack(states, dim=2)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each after a LayerNorm, each residual."""

    def __init__(self, config: WhisperConfig, *, operations: Any = nn):
        super().__init__()
        self.self_attn = SelfAttention(config.channels, config.heads, operations=operations)
        self.self_attn_layer_norm = operations.LayerNorm(config.channels)
        self.fc1 = operations.Linear(config.channels, config.ffn_channels)
        self.fc2 = operations.Linear(config.ffn_channels, config.channels)
        self.final_layer_norm = operations.LayerNorm(config.channels)

    def forward(self, x: Tensor, bias: Tensor | None = None, wanted: slice = slice(None)) -> Tensor:
        """``x`` [B, n, C] to as much of it as is ``wanted``."""
        x = x[:, wanted] + self.self_attn(self.self_attn_layer_norm(x), bias, wanted)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class SelfAttention(nn.Module):
    """Multi-head self-attention; Whisper's keys have no bias."""

    def __init__(self, channels: int, heads: int, *, operations: Any = nn):
        super().__init__()
        self.heads = heads
        self.q_proj = operations.Linear(channels, channels)
        self.k_proj = operations.Linear(channels, channels, bias=False)
        self.v_proj = operations.Linear(channels, channels)
        self.out_proj = operations.Linear(channels, channels)

    def forward(self, x: Tensor, bias: Tensor | None = None, wanted: slice = slice(None)) -> Tensor:
        """``x`` [B, n, C] to as much of it as is ``wanted``; ``bias`` is added to every head's logits, [B, 1, 1, n]."""
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(x[:, wanted]), self.k_proj(x), self.v_proj(x))
        )
        mixed = attend(query, key, value, bias)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
