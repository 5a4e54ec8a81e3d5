"""The finished audio encoder and autoencoder of earlier stages, as the UNet's stage and the shipped model use them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...latents import SCALING_FACTOR
from ...models.audio_encoder import WhisperConfig, WhisperEncoder
from ...models.vae import AutoencoderKL
from ..synthetic.people import People
from .config import VAEStageConfig
from .pictures import draw_picture, to_tensor
from .seeds import Stream, generator

_BATCH = 4
_ENCODER = "encoder."


def audio_encoder(weights: Mapping[str, Tensor], config: WhisperConfig) -> WhisperEncoder:
    """Of what the audio stage has learnt, its head left out."""
    encoder = WhisperEncoder(config)
    encoder.load_state_dict(
        {name.removeprefix(_ENCODER): value for name, value in weights.items() if name.startswith(_ENCODER)}
    )
    return encoder.eval().requires_grad_(False)


def autoencoder(
    weights: Mapping[str, Tensor], config: VAEStageConfig, people: People, seed: int, device: torch.device
) -> AutoencoderKL:
    """Of what the autoencoder's stage has learnt, its latents scaled so that those of faces have mean 0 and standard
    deviation 1 in every channel once they are multiplied by the published scaling factor, as the engine does.
    """
    network = AutoencoderKL(config.network())
    network.load_state_dict(weights)
    network.eval().requires_grad_(False).to(device)
    rng = generator(Stream.LATENTS, seed)
    pictures = [draw_picture(people.draw(rng, 1 / 3, 1 / 3), rng) for _ in range(config.scaled_by)]
    with torch.no_grad():
        latents = torch.cat(
            [network.encode(part.to(device))[0] for part in to_tensor(np.stack(pictures)).split(_BATCH)]
        )
    _rescale(network, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)) * SCALING_FACTOR)
    return network


def _rescale(network: AutoencoderKL, mean: Tensor, scale: Tensor) -> None:
    """Let latents z become (z - mean) / scale, per channel; pictures decoded from them stay the same."""
    channels = len(mean)
    into, back = network.quant_conv, network.post_quant_conv
    assert into.bias is not None and back.bias is not None
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= scale[None, :, None, None]
    into.bias[:channels] -= mean
    into.bias[:channels] /= scale
    into.weight[:channels] /= scale[:, None, None, None]
    into.bias[channels:] -= 2 * scale.log()
