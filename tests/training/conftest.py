"""Fixtures of the training tests: small networks with random weights."""

from __future__ import annotations

import pytest
import torch

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
