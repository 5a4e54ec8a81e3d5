"""Network sizes: from the shapes of the tensors and, for what they cannot tell, from the JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ModelFileError
from .audio_encoder import WhisperConfig, WhisperEncoder
from .dwpose import DWPose
from .face_parser import BiSeNet
from .s3fd import S3FD
from .signatures import FACE_KINDS, Kind, Shapes
from .unet import UNet, UNetConfig
from .vae import AutoencoderKL, VAEConfig
from .weight_file import read_json

Config = UNetConfig | VAEConfig | WhisperConfig | None
WHISPER_HEAD_CHANNELS = 64


def read_config(kind: Kind, shapes: Shapes, path: Path, metadata: Mapping[str, str]) -> Config:
    """The configuration of the network with these ``shapes`` (by our names); None for the face networks.

    Two things leave no trace in a shape: the number of normalisation groups and of attention heads. They come
    from the JSON under ``config`` in a safetensors header, or ``<file>.json``, ``musetalk.json`` or
    ``config.json`` beside the file, whichever first describes a network of the same widths. Without one the
    published values hold: 8 heads in the UNet, 64 channels per head in Whisper, and 32 groups, or 8 where 32
    do not divide every width.
    Raises ModelFileError for shapes that are no such network and for a JSON whose numbers do not fit it.
    """
    if kind == "face_parser" or kind in FACE_KINDS:
        return None
    if kind == "audio_encoder":
        return _whisper_config(shapes, path, metadata)
    if kind == "unet":
        return _unet_config(shapes, path, metadata)
    return _vae_config(shapes, path, metadata)


def make_network(kind: Kind, config: Config, operations: Any = nn) -> nn.Module:
    """The network of that kind, with whatever values the default device gives it (none on ``meta``).

    operations: the namespace its layers come from (see `layers`); the face parser always has plain ones.
    """
    if isinstance(config, UNetConfig):
        return UNet(config, operations=operations)
    if isinstance(config, VAEConfig):
        return AutoencoderKL(config, operations=operations)
    if isinstance(config, WhisperConfig):
        return WhisperEncoder(config, operations=operations)
    if kind == "dwpose":
        return DWPose(operations=operations)
    if kind == "s3fd":
        return S3FD(operations=operations)
    return BiSeNet()


def _unet_config(shapes: Shapes, path: Path, metadata: Mapping[str, str]) -> UNetConfig:
    sizes = _Sizes(shapes, path)
    widths = sizes.widths("down_blocks.{}.resnets.0.conv1.weight")
    published = _find_json(path, metadata, "block_out_channels", list(widths))
    return UNetConfig(
        in_channels=sizes("conv_in.weight", 1),
        out_channels=sizes("conv_out.weight", 0),
        block_out_channels=widths,
        attention=tuple(f"down_blocks.{level}.attentions.0.norm.weight" in shapes for level in range(len(widths))),
        layers_per_block=_count(shapes, "down_blocks.0.resnets.{}.conv1.weight"),
        cross_attention_dim=sizes("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1),
        heads=_divisor(path, published, "attention_head_dim", widths, (8,)),
        norm_num_groups=_divisor(path, published, "norm_num_groups", widths, (32, 8)),
    )


def _vae_config(shapes: Shapes, path: Path, metadata: Mapping[str, str]) -> VAEConfig:
    sizes = _Sizes(shapes, path)
    widths = sizes.widths("encoder.down_blocks.{}.resnets.0.conv1.weight")
    published = _find_json(path, metadata, "block_out_channels", list(widths))
    return VAEConfig(
        in_channels=sizes("encoder.conv_in.weight", 1),
        out_channels=sizes("decoder.conv_out.weight", 0),
        latent_channels=sizes("post_quant_conv.weight", 0),
        block_out_channels=widths,
        layers_per_block=_count(shapes, "encoder.down_blocks.0.resnets.{}.conv1.weight"),
        norm_num_groups=_divisor(path, published, "norm_num_groups", widths, (32, 8)),
    )


def _whisper_config(shapes: Shapes, path: Path, metadata: Mapping[str, str]) -> WhisperConfig:
    sizes = _Sizes(shapes, path)
    channels = sizes("conv1.weight", 0)
    published = _find_json(path, metadata, "d_model", channels)
    default_heads = max(channels // WHISPER_HEAD_CHANNELS, 1)
    return WhisperConfig(
        mel_bins=sizes("conv1.weight", 1),
        channels=channels,
        layers=_count(shapes, "layers.{}.fc1.weight"),
        heads=_divisor(path, published, "encoder_attention_heads", (channels,), (default_heads,)),
        ffn_channels=sizes("layers.0.fc1.weight", 0),
        positions=sizes("embed_positions.weight", 0),
    )


class _Sizes:
    """Looks up one dimension of one tensor; names the file when it is not there."""

    def __init__(self, shapes: Shapes, path: Path):
        self.shapes, self.path = shapes, path

    def __call__(self, name: str, axis: int) -> int:
        shape = self.shapes.get(name)
        if shape is None or len(shape) <= axis or shape[axis] < 1:
            raise ModelFileError(
                f"{self.path}: tensor {name} is missing or has no usable shape; the file is incomplete"
            )
        return shape[axis]

    def widths(self, pattern: str) -> tuple[int, ...]:
        levels = max(_count(self.shapes, pattern), 1)  # at least one, so that a missing first level is named
        return tuple(self(pattern.format(level), 0) for level in range(levels))


def _count(shapes: Shapes, pattern: str) -> int:
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number


def _find_json(path: Path, metadata: Mapping[str, str], key: str, value: Any) -> tuple[str, dict[str, Any]] | None:
    """The first JSON whose ``key`` has ``value``, with the name to call it by in messages."""
    try:
        header = json.loads(metadata.get("config", "null"))
    except ValueError:
        header = None
    candidates: list[tuple[str, Any]] = [(f"{path} (header)", header)]
    for beside in (path.with_suffix(".json"), path.with_name("musetalk.json"), path.with_name("config.json")):
        candidates.append((str(beside), read_json(beside)))
    for name, content in candidates:
        if isinstance(content, dict) and content.get(key) == value:
            return name, content
    return None


def _divisor(
    path: Path,
    published: tuple[str, dict[str, Any]] | None,
    key: str,
    widths: tuple[int, ...],
    defaults: tuple[int, ...],
) -> int:
    """A number from the JSON, or the first default, that divides every width."""
    if published is not None and key in published[1]:
        name, content = published
        number = content[key]
        if type(number) is not int or number < 1 or any(width % number for width in widths):
            raise ModelFileError(
                f"{name}: {key} is {number!r}, which does not divide the widths {list(widths)} of {path}"
            )
        return number
    for number in defaults:
        if not any(width % number for width in widths):
            return number
    raise ModelFileError(f"{path}: widths {list(widths)} need a {key}; put the model's config.json beside the file")
