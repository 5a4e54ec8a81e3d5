"""What a training run is told, section by section; read from YAML (``configs/``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from .augment import Augmentation
from .limits import at_least, between
from .losses.vgg19 import LOCAL_PATH as VGG_PATH
from .losses.weights import PARTS, PRESETS, LossWeights
from .settings import build, read_yaml, to_plain, with_overrides

SYNC_FRAMES = 16
SYNCNET_PATH = "syncnet/latentsync_syncnet.pt"


@dataclass(frozen=True)
class DataConfig:
    """Which clips, and how samples are cut from them.

    path: data set made by ``musetalk train-data``.
    batch_size: samples per process and micro-step. frames: consecutive frames of a sample, T.
    reference: ``informative`` is the paper's selective information sampling, ``random`` any near frame.
    top_k: share of the clip's frames in each of the two sets that ``informative`` intersects.
    margin: ``none``, or how the crop's lower edge moves down by ``margin_mean`` +- ``margin_spread`` pixels.
    min_face: narrowest face box, pixels of the clip.
    samples_per_clip: drawn at each visit of a clip, which is decoded once for all of them.
    bad_clips: damaged clips that each worker passes over, with a warning, before it gives up.
    augmentation: how strongly the samples that are learnt from are changed; see `Augmentation`.
    workers: processes that decode; 0 decodes in the training process.
    """

    path: Path
    batch_size: int = 1
    frames: int = 1
    reference: Literal["informative", "random"] = "informative"
    top_k: float = 0.51
    margin: Literal["none", "normal", "uniform"] = "none"
    margin_mean: float = 10.0
    margin_spread: float = 10.0
    min_face: int = 0
    samples_per_clip: int = 4
    bad_clips: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    workers: int = 4

    def __post_init__(self) -> None:
        at_least("batch_size", self.batch_size, 1)
        at_least("frames", self.frames, 1)
        at_least("min_face", self.min_face, 0)
        at_least("samples_per_clip", self.samples_per_clip, 1)
        at_least("bad_clips", self.bad_clips, 0)
        at_least("workers", self.workers, 0)
        between("top_k", self.top_k, 0.0, 1.0)
        at_least("margin_mean", self.margin_mean, 0.0)
        at_least("margin_spread", self.margin_spread, 0.0)


@dataclass(frozen=True)
class ModelConfig:
    """The networks.

    folder: models folder; the VAE and the audio encoder in it stay as they are.
    unet: ``random`` starts from scratch, ``pretrained`` from the UNet in ``folder``, anything else from that file.
    architecture: for ``random``, a musetalk.json with the sizes; the published ones without it.
    gradient_checkpointing, vae_gradient_checkpointing: compute activations of the UNet, of the VAE's decoder, again in
        the backward pass instead of keeping them: about a third more time for a fraction of the memory.
    """

    folder: Path = Path("models")
    unet: str = "pretrained"
    architecture: Path | None = None
    gradient_checkpointing: bool = True
    vae_gradient_checkpointing: bool = True

    def __post_init__(self) -> None:
        if self.architecture is not None and self.unet != "random":
            raise InputError(f"architecture is only for unet: random, but unet is {self.unet}")


@dataclass(frozen=True)
class LossConfig:
    """The loss: a preset of weights, single weights changed, and the networks it needs.

    preset: see `musetalk.training.losses.PRESETS`. l1 to sync, gan_start, feature_matching_start: replace the preset's
        numbers; starts count optimiser steps.
    upstream_quirks: judge at upstream's picture sizes and with its clamps (spec section 8.5).
    vgg, syncnet: their files; None looks in the models folder at ``vgg19/vgg19-dcbb9e9d.pth`` and
        ``syncnet/latentsync_syncnet.pt``.
    backward_frames: frames of a sample that are drawn and carry gradients, chosen anew each time; the others stand in
        the sync loss as they are in the clip.
    """

    preset: str = "upstream_stage1"
    l1: float | None = None
    perceptual: float | None = None
    gan: float | None = None
    feature_matching: float | None = None
    mouth_gan: float | None = None
    mouth_feature_matching: float | None = None
    sync: float | None = None
    gan_start: int | None = None
    feature_matching_start: int | None = None
    upstream_quirks: bool = False
    vgg: Path | None = None
    syncnet: Path | None = None
    backward_frames: int = 16

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(f"preset is {self.preset!r}; use one of {', '.join(PRESETS)}")
        at_least("backward_frames", self.backward_frames, 1)
        weights = self.weights
        if not any(getattr(weights, part) > 0 for part in PARTS):
            raise InputError("every weight is 0; there is nothing to learn")
        # The sync loss alone would be content with any picture.
        if not replace(weights, sync=0.0).at(0):
            raise InputError(
                f"no loss of the pictures counts at step 0 (gan_start is {weights.gan_start}, feature_matching_start "
                f"{weights.feature_matching_start}); give l1 or perceptual a weight, or start others at 0"
            )

    @property
    def weights(self) -> LossWeights:
        names = [field.name for field in fields(LossWeights)]
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(PRESETS[self.preset], **changes)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate.

    schedule: after ``warmup`` steps from 0 to ``lr``, ``linear`` or ``cosine`` falls to ``final_lr`` at the last step.
    clip: largest norm of the gradient; None leaves it alone.
    """

    lr: float = 2e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: int = 0
    final_lr: float = 0.0
    betas: tuple[float, ...] = (0.5, 0.999)
    weight_decay: float = 0.01
    eps: float = 1e-8
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"lr is {self.lr}; it must be above 0")
        between("final_lr", self.final_lr, 0.0, self.lr)
        at_least("warmup", self.warmup, 0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas are {list(self.betas)}; they must be two numbers from 0 to below 1")
        at_least("weight_decay", self.weight_decay, 0.0)
        if not self.eps > 0:
            raise InputError(f"eps is {self.eps}; it must be above 0")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip is {self.clip}; it must be above 0, or null for no clipping")


@dataclass(frozen=True)
class ValidationConfig:
    """A look at ``batches`` fixed batches of the data set's val part, drawn as inference would.

    every: so many steps, and at the end; 0 does without.
    """

    every: int = 2000
    batches: int = 4
    batch_size: int = 4

    def __post_init__(self) -> None:
        at_least("every", self.every, 0)
        at_least("batches", self.batches, 1)
        at_least("batch_size", self.batch_size, 1)


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    output: folder of checkpoints, logs, samples and the export.
    steps: optimiser steps; every other number of steps here counts these too.
    accumulation: micro-steps whose gradients make one optimiser step.
    precision: of the activations; the trained weights stay float32. None is what ``accelerate config`` says.
    ema_decay: of the moving average of the weights, which is validated and exported.
    log_every, checkpoint_every: steps. keep: checkpoints kept, the newest.
    """

    output: Path
    data: DataConfig
    steps: int
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    seed: int = 41
    accumulation: int = 1
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    ema_decay: float = 0.9999
    log_every: int = 10
    checkpoint_every: int = 1000
    keep: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "log_every", "checkpoint_every", "keep"):
            at_least(name, getattr(self, name), 1)
        between("seed", self.seed, 0, 2**31 - 1)
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}; it must lie from 0 to below 1")
        if self.losses.weights.sync > 0 and self.data.frames != SYNC_FRAMES:
            raise InputError(
                f"data.frames is {self.data.frames}, but SyncNet looks at {SYNC_FRAMES} frames; set data.frames to "
                f"{SYNC_FRAMES} or losses.sync to 0"
            )
        if self.optimizer.warmup >= self.steps:
            raise InputError(f"optimizer.warmup is {self.optimizer.warmup}, but there are only {self.steps} steps")

    @property
    def backward_frames(self) -> int:
        """Frames of each sample that are drawn."""
        return min(self.losses.backward_frames, self.data.frames)

    @property
    def vgg_path(self) -> Path:
        return self.losses.vgg or self.model.folder / VGG_PATH

    @property
    def syncnet_path(self) -> Path:
        return self.losses.syncnet or self.model.folder / SYNCNET_PATH

    def to_dict(self) -> dict[str, Any]:
        """Nested, with paths as texts, for JSON."""
        return to_plain(self)


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A run from a YAML file and ``section.key=value`` texts.

    Raises InputError naming the file or the key for anything unknown, missing, of another type or impossible.
    """
    return build(TrainingConfig, with_overrides(read_yaml(path), overrides))
