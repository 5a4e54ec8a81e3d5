"""Whether the three networks of a recipe can be built and fit together, before any of them is trained."""

from __future__ import annotations

import torch

from ...audio.mel import SEGMENT_STEPS
from ...audio.windows import WINDOW_STEPS
from ...errors import InputError
from ...inpainting import TOKENS
from ...latents import FACE_SIZE
from ...models.unet import UNet
from ...models.vae import AutoencoderKL
from .audio_stage import PoseReader
from .config import MiniConfig

_META = torch.device("meta")


def check_networks(config: MiniConfig) -> None:
    """Run shapes without numbers through audio encoder, autoencoder and UNet.

    Raises InputError with the sizes that do not work, and for an audio encoder whose states make no 50 tokens.
    """
    audio, vae = config.audio.network(), config.vae.network()
    tokens = WINDOW_STEPS * (audio.layers + 1)
    if tokens != TOKENS:
        raise InputError(
            f"audio.layers is {audio.layers}, which makes {tokens} audio tokens a frame; the engine takes {TOKENS}, "
            f"so set it to {TOKENS // WINDOW_STEPS - 1}"
        )
    unet = config.unet.network(audio)
    try:
        with _META, torch.no_grad():
            PoseReader(audio)(torch.empty(1, audio.mel_bins, 2 * SEGMENT_STEPS))
            autoencoder = AutoencoderKL(vae)
            latents, _ = autoencoder.encode(torch.empty(1, vae.in_channels, FACE_SIZE, FACE_SIZE))
            autoencoder.decode(latents)
            UNet(unet)(latents.repeat(1, 2, 1, 1), torch.empty(1, TOKENS, unet.cross_attention_dim))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"these networks cannot be built: {audio}, {vae}, {unet} ({error})") from error
