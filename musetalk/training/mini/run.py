"""The training of musetalk-mini from its configuration to a models folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...models.load import resolve_device
from ..stopping import StopRequest
from .architecture import check_networks
from .audio_stage import AudioStage
from .config import MiniConfig
from .encoders import audio_encoder, autoencoder
from .export import export_mini
from .facts import digest
from .shots import Studio
from .stage import run_stage, weights_of
from .unet_stage import UNetStage
from .vae_stage import VAEStage

EXPORT = "models"


@dataclass(frozen=True)
class MiniReport:
    """finished: the stages done. stopped: the stage that a signal ended after a checkpoint, or kept from beginning;
        None for none.

    models: the folder for ``--models``; None before every stage is finished.
    """

    finished: tuple[str, ...]
    stopped: str | None
    models: Path | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "finished": list(self.finished),
            "stopped": self.stopped,
            "models": None if self.models is None else str(self.models),
        }


def train_mini(config: MiniConfig, *, device: torch.device | str | None = None, quiet: bool = True) -> MiniReport:
    """Run the stages that are not finished yet, each from its newest checkpoint, and write the models folder.

    device: default is cuda, else mps, else cpu. SIGINT and SIGTERM write a checkpoint and end the run; once the last
    step is done, the models folder is written all the same.
    Raises InputError for networks that do not fit together, and for an output whose stages were trained with or on
    anything else (only ``validate_every`` and ``checkpoint_every`` may change); ModelFileError, OutputError, and
    MuseTalkError where espeak-ng is missing or training fails.
    """
    place, root = resolve_device(device), config.output
    check_networks(config)
    with StopRequest() as request:
        return _stages(config, place, root, request, quiet)


def _stages(config: MiniConfig, place: torch.device, root: Path, request: StopRequest, quiet: bool) -> MiniReport:
    if not run_stage(AudioStage(config, place), root / "audio", request, quiet=quiet):
        return MiniReport((), "audio", None)
    vae_stage = VAEStage(config, place)
    if not run_stage(vae_stage, root / "vae", request, quiet=quiet):
        return MiniReport(("audio",), "vae", None)
    people = vae_stage.people
    weights = {name: weights_of(root / name) for name in ("audio", "vae")}
    audio = audio_encoder(weights["audio"], config.audio.network())
    vae = autoencoder(weights["vae"], config.vae, people, config.seed, place)
    studio = Studio(audio, vae, place, config.unet.precision)
    stage = UNetStage(config, studio, people, {name: digest(values) for name, values in weights.items()})
    if not run_stage(stage, root / "unet", request, quiet=quiet):
        return MiniReport(("audio", "vae"), "unet", None)
    export_mini(root / EXPORT, stage.network.state_dict(), stage.network.config, vae, audio)
    return MiniReport(("audio", "vae", "unet"), None, root / EXPORT)
