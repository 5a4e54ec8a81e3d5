"""Fixtures of the training tests: small networks with random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from musetalk.models import Models, load_models
from musetalk.models.audio_encoder import WhisperConfig
from musetalk.models.syncnet import PUBLISHED, EncoderConfig, SyncNet, SyncNetConfig
from musetalk.training.losses.vgg19 import VGG19


@pytest.fixture(scope="session")
def tiny_syncnet_config() -> SyncNetConfig:
    """The published SyncNet's strides and inputs with 32 channels throughout, 64 at the end."""
    return SyncNetConfig(
        visual=EncoderConfig(48, (32,) * 7 + (64,), PUBLISHED.visual.strides),
        audio=EncoderConfig(1, (32,) * 6 + (64,), PUBLISHED.audio.strides),
    )


@pytest.fixture
def tiny_syncnet(tiny_syncnet_config: SyncNetConfig) -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(tiny_syncnet_config)


@pytest.fixture(scope="session")
def random_vgg() -> VGG19:
    """VGG19 in its published shape, random weights."""
    torch.manual_seed(0)
    return VGG19()


@pytest.fixture(scope="session")
def narrow_models_dir(random_models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with random weights, narrower than the suite's tiny ones, without a face parser.

    Training runs its networks over and over, and the audio encoder hears 30 s for every sample.
    """
    whisper = WhisperConfig(channels=64, heads=1, ffn_channels=64)
    vae = replace(random_models.TINY_VAE, block_out_channels=(8, 16, 16, 16))
    unet = replace(random_models.TINY_UNET, block_out_channels=(16, 32, 32, 32), cross_attention_dim=whisper.channels)
    draw = random_models.Draw("narrow", seed=0)
    networks = (
        ("musetalkV15/unet", "musetalk", random_models.unet_json(unet), random_models.unet_weights(unet, draw)),
        ("sd-vae/diffusion_pytorch_model", "config", random_models.vae_json(vae), random_models.vae_weights(vae, draw)),
        ("whisper/model", "config", random_models.whisper_json(whisper), random_models.whisper_weights(whisper, draw)),
    )
    folder = tmp_path_factory.mktemp("narrow_models")
    for stem, description, sizes, weights in networks:
        path = folder / f"{stem}.safetensors"
        path.parent.mkdir()
        path.with_name(f"{description}.json").write_text(json.dumps(sizes), encoding="utf-8")
        save_file(weights, path)
    return folder


@pytest.fixture(scope="session")
def narrow_models(narrow_models_dir: Path) -> Models:
    return load_models(narrow_models_dir, device="cpu")
