"""musetalk-mini as a models folder in the official layout, float16."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...errors import MuseTalkError
from ...latents import FACE_SIZE, SCALING_FACTOR
from ...models.audio_encoder import WhisperConfig, WhisperEncoder
from ...models.unet import UNetConfig
from ...models.vae import AutoencoderKL, VAEConfig
from ..export import UNET_FOLDER, save_unet, unet_json
from ..replacement import replaced
from .card import CARD

_WHISPER_PREFIX = "model.encoder."


def export_mini(
    out: Path, unet: Mapping[str, Tensor], unet_config: UNetConfig, vae: AutoencoderKL, audio: WhisperEncoder
) -> None:
    """Write the folder, with its model card; an older one is replaced as a whole.

    Raises OutputError, and MuseTalkError for weights that float16 cannot hold; then the older one is still there.
    """
    half_unet, half_vae = _half("UNet", unet), _half("autoencoder", vae.state_dict())
    half_audio = _half("audio encoder", audio.state_dict())
    with replaced(out) as part:
        for name in (UNET_FOLDER, "sd-vae", "whisper"):
            (part / name).mkdir()
        save_unet(half_unet, unet_config, part / UNET_FOLDER / "unet.safetensors")
        _write_json(part / UNET_FOLDER / "musetalk.json", unet_json(unet_config))
        save_file(half_vae, part / "sd-vae" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
        _write_json(part / "sd-vae" / "config.json", vae_json(vae.config))
        states = {_WHISPER_PREFIX + name: value for name, value in half_audio.items()}
        save_file(states, part / "whisper" / "model.safetensors", {"format": "pt"})
        _write_json(part / "whisper" / "config.json", whisper_json(audio.config))
        (part / "README.md").write_text(CARD, encoding="utf-8")


def vae_json(config: VAEConfig) -> dict[str, Any]:
    """The sizes as diffusers' ``config.json`` gives them."""
    levels = len(config.block_out_channels)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": config.in_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "sample_size": FACE_SIZE,
        "scaling_factor": SCALING_FACTOR,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def whisper_json(config: WhisperConfig) -> dict[str, Any]:
    """The sizes as transformers' ``config.json`` gives them."""
    return {
        "architectures": ["WhisperModel"],
        "model_type": "whisper",
        "d_model": config.channels,
        "encoder_layers": config.layers,
        "encoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.ffn_channels,
        "max_source_positions": config.positions,
        "num_mel_bins": config.mel_bins,
    }


def _half(network: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    halves = {name: value.detach().cpu().to(torch.float16).contiguous() for name, value in weights.items()}
    for name, value in halves.items():
        if not value.isfinite().all():
            raise MuseTalkError(
                f"the {network}'s {name} has values that float16 cannot hold; train that stage again with a lower lr"
            )
    return halves


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
