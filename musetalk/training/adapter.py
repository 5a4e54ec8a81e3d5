"""A personal adapter: a LoRA trained on one or two minutes of one person, the UNet itself left as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.checkpoints import examine
from ..models.layout import VERSIONS, find_models, version_of
from ..models.lora import LoRA, save_lora
from ..models.lora_file import check_lora_target
from ..models.lora_layers import extract_lora, inject_lora, injected_layers
from ..models.low_rank import DEFAULT_RANK, targets_of
from ..models.unet import UNet, UNetConfig
from ..profile import Version
from .batches import training_batches
from .build import BuildOptions, build_dataset
from .config import TrainingConfig
from .networks import FoundNetworks, build_networks, build_objective, find_networks
from .run import make_accelerator
from .settings import build, read_yaml, with_overrides
from .trainer import Trainer

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

# The same as configs/adapter.yaml, which says where each value is from.
PRESET: Mapping[str, Any] = {
    "output": "runs/adapter",
    "steps": 1000,
    "ema_decay": 0.99,
    "data": {"path": "data", "batch_size": 4, "margin": "normal", "min_face": 100, "workers": 2},
    "losses": {"preset": "upstream_stage1"},
    "optimizer": {"lr": 1e-4, "schedule": "cosine", "betas": [0.9, 0.999]},
    "validation": {"every": 0},
}


@dataclass(frozen=True)
class AdapterReport:
    """path: of the adapter. bytes: its size. steps: done. perceptual: whether VGG19 was there to judge.

    loss_first, loss_last: mean over the first and the last tenth of the steps.
    """

    path: Path
    bytes: int
    rank: int
    alpha: float
    version: Version
    steps: int
    perceptual: bool
    loss_first: float
    loss_last: float

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


class AdaptedUNet(nn.Module):
    """A UNet in training whose only parameters are its LoRA's.

    To a trainer it is the UNet itself, but optimiser, moving average, checkpoints and what processes send each other
    hold the LoRA alone.
    """

    def __init__(self, unet: UNet) -> None:
        """unet: after `inject_lora`."""
        super().__init__()
        layers = injected_layers(unet)
        # Module names cannot have dots.
        self.lora = nn.ModuleDict(
            {
                name.replace(".", "/"): nn.ModuleDict({"lora_A": layer.lora_A, "lora_B": layer.lora_B})
                for name, layer in layers.items()
            }
        )
        # In a tuple the UNet is no submodule, so its frozen weights are nobody's parameters.
        self._frozen = (unet,)

    @property
    def config(self) -> UNetConfig:
        return self._frozen[0].config

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """As `UNet.forward`."""
        drawn: Tensor = self._frozen[0](latents, tokens)
        return drawn


def adapter_config(path: Path | None = None, overrides: Sequence[str] = ()) -> TrainingConfig:
    """The run to train an adapter with. path: a YAML file in place of `PRESET`; overrides: ``section.key=value`` texts.

    Raises InputError.
    """
    return build(TrainingConfig, with_overrides(PRESET if path is None else read_yaml(path), overrides))


def train_adapter(
    config: TrainingConfig,
    out: Path,
    *,
    video: Path | None = None,
    rank: int = DEFAULT_RANK,
    alpha: float | None = None,
    version: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> AdapterReport:
    """Train a LoRA on one person and save its moving average.

    config: of the run; its ``output`` is not used, and nothing but ``out`` is written.
    video: one or two minutes of the person, made into training clips in a folder beside ``out`` that goes again. None
        trains on the data set in ``config.data.path``.
    alpha: default is the rank. version: of the UNet, as for `load_models`, where ``config.model.unet`` is
        ``pretrained``. progress(stage, done, total) is called after each step.
    Without VGG19's file its loss is left out, with a warning.
    Raises InputError, ModelFileError, OutputError, most of them before anything long begins.
    """
    report = progress or (lambda stage, done, total: None)
    check_lora_target(out, overwrite=overwrite)
    config, base = _choose_unet(config, version)
    config = _without_missing_vgg(config)
    found = find_networks(config)
    unet_config = found.unet if isinstance(found.unet, UNetConfig) else cast(UNetConfig, found.unet.config)
    alpha = float(rank) if alpha is None else alpha
    targets_of(unet_config).check(rank, alpha)
    accelerator = make_accelerator(config)
    if accelerator.num_processes > 1:
        raise InputError(
            "an adapter is trained by one process; start `musetalk train-adapter` without accelerate launch"
        )
    with ExitStack() as stack:
        if video is not None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix=".musetalk-", dir=out.parent)))
            config = replace(config, data=replace(config.data, path=_clips_of(video, folder, config, report)))
        lora, losses = _train(config, accelerator, found, rank, alpha, base, report)
    save_lora(lora, out, unet_config, overwrite=overwrite)
    tenth = max(1, len(losses) // 10)
    return AdapterReport(
        path=out,
        bytes=out.stat().st_size,
        rank=lora.rank,
        alpha=lora.alpha,
        version=lora.version,
        steps=len(losses),
        perceptual=config.losses.weights.perceptual > 0,
        loss_first=fmean(losses[:tenth]),
        loss_last=fmean(losses[-tenth:]),
    )


def _train(
    config: TrainingConfig,
    accelerator: Any,
    found: FoundNetworks,
    rank: int,
    alpha: float,
    version: Version,
    report: Progress,
) -> tuple[LoRA, list[float]]:
    """The LoRA and the loss of every step."""
    batches = training_batches(config, 0, 1, 0)
    torch.manual_seed(config.seed)
    models = build_networks(found, config, accelerator.device)
    inject_lora(models.unet, rank, alpha)
    adapted = cast(UNet, AdaptedUNet(models.unet))  # as far as the trainer looks
    objective = build_objective(config, accelerator.device)
    trainer = Trainer(config, accelerator, replace(models, unet=adapted), objective, batches)
    losses = []
    while trainer.steps < config.steps:
        losses.append(trainer.step()["loss"])
        report("train", trainer.steps, config.steps)
    with trainer.average.applied():
        return extract_lora(models.unet, version), losses


def _choose_unet(config: TrainingConfig, version: str) -> tuple[TrainingConfig, Version]:
    """The run with its UNet named as a file, and the version of that UNet."""
    model = config.model
    if model.unet == "random":
        raise InputError("model.unet is random; an adapter changes a trained UNet: use pretrained, or its file")
    if model.unet == "pretrained":
        found = find_models(model.folder, version)
        unet = str(found.checkpoints["unet"].path)
        return replace(config, model=replace(model, unet=unet)), found.version
    if version in VERSIONS:
        return config, version
    path = Path(model.unet).resolve()
    return config, version_of(examine(path, "unet"), path.parent.parent) or "v15"


def _without_missing_vgg(config: TrainingConfig) -> TrainingConfig:
    if config.losses.weights.perceptual == 0 or config.vgg_path.is_file():
        return config
    logger.warning(
        "%s is missing: trained without the perceptual loss, so textures may come out softer", config.vgg_path
    )
    return replace(config, losses=replace(config.losses, perceptual=0.0))


def _clips_of(video: Path, folder: Path, config: TrainingConfig, report: Progress) -> Path:
    """A data set of one video. Raises InputError saying what is wrong with each second of one that gives no clip."""
    options = BuildOptions(min_face=max(1, config.data.min_face), models=config.model.folder, validation=0.0)
    made = build_dataset(video, folder, options, progress=report)
    if not made.clips["train"]:
        reasons = [*made.failures.values(), *(f"{s:.1f} s: {why}" for why, s in made.seconds_dropped.items())]
        raise InputError(
            f"{video} shows nobody to learn from ({'; '.join(reasons)}); give one or two minutes of one person "
            "talking, facing the camera"
        )
    return made.out
