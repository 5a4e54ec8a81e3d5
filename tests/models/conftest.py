"""Tiny models in memory, to be written under other names, in other formats, or broken."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def unet_weights(random_models: ModuleType) -> dict[str, torch.Tensor]:
    return random_models.unet_weights(random_models.TINY_UNET, random_models.Draw("tiny/unet", 0))


@pytest.fixture(scope="session")
def vae_weights(random_models: ModuleType) -> dict[str, torch.Tensor]:
    """By the published names, new style."""
    return random_models.vae_weights(random_models.TINY_VAE, random_models.Draw("tiny/vae", 0))


@pytest.fixture
def without_unet(tiny_models_dir: Path, tmp_path: Path) -> Path:
    """A models folder that lacks only the UNet."""
    for name in ("sd-vae", "whisper", "face-parse-bisent"):
        (tmp_path / name).symlink_to(tiny_models_dir / name, target_is_directory=True)
    return tmp_path
