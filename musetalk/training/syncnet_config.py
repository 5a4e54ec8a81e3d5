"""What a training run of SyncNet is told; read from YAML (``configs/syncnet.yaml``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from .config import SYNC_FRAMES, OptimizerConfig, ValidationConfig
from .limits import at_least, between
from .settings import build, read_yaml, to_plain, with_overrides


@dataclass(frozen=True)
class SyncNetDataConfig:
    """Which clips, and how pairs of frames and sound are made of them.

    path: data set made by ``musetalk train-data``.
    batch_size: samples per process and micro-step; out of sync is a sample with the sound of another one of these.
    samples_per_clip: drawn at each visit of a clip; they find each other in a batch.
    least_shift: frames that two samples of a clip lie apart at least, for the sound of one to be out of sync with the
        other.
    frames: of a sample; SyncNet looks at 16.
    margin, margin_mean, margin_spread: of the crop's lower edge, as in `DataConfig`.
    min_face: narrowest face box, pixels of the clip.
    workers: processes that decode; 0 decodes in the training process.
    """

    path: Path
    batch_size: int = 32
    samples_per_clip: int = 4
    least_shift: int = 5
    frames: int = SYNC_FRAMES
    margin: Literal["none", "normal", "uniform"] = "none"
    margin_mean: float = 10.0
    margin_spread: float = 10.0
    min_face: int = 0
    workers: int = 4

    def __post_init__(self) -> None:
        if self.frames != SYNC_FRAMES:
            raise InputError(f"frames is {self.frames}, but SyncNet looks at {SYNC_FRAMES} frames; leave frames out")
        if self.batch_size < 2:
            raise InputError(
                f"batch_size is {self.batch_size}; it must be at least 2, since out of sync is a sample with the sound "
                "of another one of its batch"
            )
        at_least("samples_per_clip", self.samples_per_clip, 1)
        at_least("least_shift", self.least_shift, 1)
        at_least("margin_mean", self.margin_mean, 0.0)
        at_least("margin_spread", self.margin_spread, 0.0)
        at_least("min_face", self.min_face, 0)
        at_least("workers", self.workers, 0)


@dataclass(frozen=True)
class SyncNetTrainingConfig:
    """One training run of SyncNet; see `TrainingConfig` for what is not said here.

    weights: a SyncNet to go on from, such as latentsync_syncnet.pt; None starts from scratch.
    validation: ``batches`` of ``batch_size`` samples of the data set's val part.
    """

    output: Path
    data: SyncNetDataConfig
    steps: int
    weights: Path | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    seed: int = 42
    accumulation: int = 1
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    log_every: int = 10
    checkpoint_every: int = 1000
    keep: int = 3

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "log_every", "checkpoint_every", "keep"):
            at_least(name, getattr(self, name), 1)
        between("seed", self.seed, 0, 2**31 - 1)
        if self.optimizer.warmup >= self.steps:
            raise InputError(f"optimizer.warmup is {self.optimizer.warmup}, but there are only {self.steps} steps")
        if self.validation.every > 0 and self.validation.batch_size < 2:
            raise InputError(f"validation.batch_size is {self.validation.batch_size}; it must be at least 2")

    def to_dict(self) -> dict[str, Any]:
        """Nested, with paths as texts, for JSON."""
        return to_plain(self)


def read_syncnet_config(path: Path, overrides: Sequence[str] = ()) -> SyncNetTrainingConfig:
    """A run from a YAML file and ``section.key=value`` texts.

    Raises InputError naming the file or the key for anything unknown, missing, of another type or impossible.
    """
    return build(SyncNetTrainingConfig, with_overrides(read_yaml(path), overrides))
