"""The training of musetalk-mini from its configuration to a models folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...models.load import resolve_device
from .audio_stage import AudioStage
from .config import MiniConfig
from .encoders import audio_encoder, autoencoder
from .export import export_mini
from .shots import Studio
from .stage import run_stage, weights_of
from .unet_stage import UNetStage
from .vae_stage import VAEStage

EXPORT = "models"


@dataclass(frozen=True)
class MiniReport:
    """finished: the stages done. stopped: the stage that a signal ended after a checkpoint; None for none.

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

    device: default is cuda, else mps, else cpu. SIGINT and SIGTERM write a checkpoint and end the run.
    Raises InputError, ModelFileError, OutputError, and MuseTalkError where espeak-ng is missing or training fails.
    """
    place, root = resolve_device(device), config.output
    finished: list[str] = []
    if not run_stage(AudioStage(config.audio, place, config.seed), root / "audio", quiet=quiet):
        return MiniReport((), "audio", None)
    finished.append("audio")
    vae_stage = VAEStage(config.vae, config.faces, place, config.seed)
    if not run_stage(vae_stage, root / "vae", quiet=quiet):
        return MiniReport(tuple(finished), "vae", None)
    finished.append("vae")
    people = vae_stage.people
    audio_weights, vae_weights = weights_of(root / "audio"), weights_of(root / "vae")
    assert audio_weights is not None and vae_weights is not None
    audio_config, vae_config = config.audio.network(), config.vae.network()
    audio = audio_encoder(audio_weights, audio_config)
    vae = autoencoder(vae_weights, vae_config, people, config.seed, place)
    unet_config = config.unet.network(audio_config)
    studio = Studio(audio, vae, place, config.unet.precision)
    stage = UNetStage(config.unet, config.faces, unet_config, studio, people, config.seed)
    if not run_stage(stage, root / "unet", quiet=quiet):
        return MiniReport(tuple(finished), "unet", None)
    finished.append("unet")
    export_mini(root / EXPORT, stage.network.state_dict(), unet_config, vae, audio)
    return MiniReport(tuple(finished), None, root / EXPORT)
