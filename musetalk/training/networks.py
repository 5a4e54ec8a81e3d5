"""The networks of a run: found and checked first, without reading a weight; then built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from ..errors import ModelFileError
from ..models.audio_encoder import WhisperEncoder
from ..models.checkpoints import Checkpoint, examine
from ..models.layout import download_command, search_models
from ..models.load import Models
from ..models.syncnet import load_syncnet
from ..models.unet import UNet, UNetConfig
from ..models.vae import AutoencoderKL
from .config import TrainingConfig
from .export import read_unet_json
from .losses.vgg19 import URL, load_vgg19
from .objective import Objective
from .recompute import recompute_blocks

_FROZEN = ("vae", "audio_encoder")
_SYNCNET_URL = "https://huggingface.co/ByteDance/LatentSync/resolve/main/latentsync_syncnet.pt"


@dataclass(frozen=True)
class FoundNetworks:
    """Examined files. unet: where training starts; the sizes alone for a start from scratch."""

    unet: Checkpoint | UNetConfig
    vae: Checkpoint
    audio_encoder: Checkpoint

    @property
    def frozen(self) -> dict[str, Path]:
        """The files of the networks that stay as they are, by the folder that is theirs in the official layout."""
        return {"sd-vae": self.vae.path, "whisper": self.audio_encoder.path}


def find_networks(config: TrainingConfig, unet: Path | None = None) -> FoundNetworks:
    """Find everything a run needs, the losses' networks too.

    unet: a file that takes the place of ``model.unet``, to resume from.
    Raises ModelFileError naming what is missing, where to get it, and the key that does without it.
    """
    _check_loss_files(config)
    folder = config.model.folder
    found = search_models(folder)
    missing = [kind for kind in _FROZEN if kind not in found.checkpoints]
    if unet is None and config.model.unet == "pretrained" and "unet" not in found.checkpoints:
        missing.append("unet")
    if missing:
        scratch = "" if "unet" not in missing else "; or start from scratch with model.unet: random"
        raise ModelFileError(
            f"{folder}: {', '.join(missing)} missing; fetch with: {download_command(folder, 'auto')}{scratch}"
        )
    return FoundNetworks(
        unet=_starting_unet(config, found.checkpoints.get("unet")) if unet is None else examine(unet, "unet"),
        vae=found.checkpoints["vae"],
        audio_encoder=found.checkpoints["audio_encoder"],
    )


def build_networks(found: FoundNetworks, config: TrainingConfig, device: torch.device) -> Models:
    """The networks in float32 on ``device``, frozen; a start from scratch draws its weights from torch's generator."""
    if isinstance(found.unet, UNetConfig):
        unet = UNet(found.unet).to(device).eval().requires_grad_(False)
    else:
        unet = cast(UNet, found.unet.build(device))
    vae = cast(AutoencoderKL, found.vae.build(device))
    if config.model.gradient_checkpointing:
        recompute_blocks(unet)
    if config.model.vae_gradient_checkpointing:
        recompute_blocks(vae.decoder)
    return Models(
        unet=unet,
        vae=vae,
        audio_encoder=cast(WhisperEncoder, found.audio_encoder.build(device)),
        face_parser=None,
        version="v15",
        device=device,
        dtype=torch.float32,
        files={"vae": found.vae.path, "audio_encoder": found.audio_encoder.path},
    )


def build_objective(config: TrainingConfig, device: torch.device) -> Objective:
    """The losses, with frozen networks from their files and discriminators drawn from torch's generator."""
    weights = config.losses.weights
    return Objective(
        weights,
        vgg=load_vgg19(config.vgg_path, device) if weights.perceptual > 0 else None,
        syncnet=load_syncnet(config.syncnet_path, device) if weights.sync > 0 else None,
        upstream=config.losses.upstream_quirks,
    )


def _starting_unet(config: TrainingConfig, pretrained: Checkpoint | None) -> Checkpoint | UNetConfig:
    choice = config.model.unet
    if choice == "random":
        path = config.model.architecture
        return UNetConfig() if path is None else read_unet_json(path)
    if choice == "pretrained" and pretrained is not None:
        return pretrained
    return examine(Path(choice), "unet")


def _check_loss_files(config: TrainingConfig) -> None:
    weights = config.losses.weights
    wanted = [
        (weights.perceptual, "losses.perceptual", "VGG19", config.vgg_path, URL, "losses.vgg"),
        (weights.sync, "losses.sync", "SyncNet", config.syncnet_path, _SYNCNET_URL, "losses.syncnet"),
    ]
    problems = [
        f"{path}: {title} is missing, which {key}: {weight:g} needs; download {url} there, say where it is with "
        f"{place}, or do without it with {key}: 0"
        for weight, key, title, path, url, place in wanted
        if weight > 0 and not path.is_file()
    ]
    if problems:
        raise ModelFileError("\n".join(problems))
