"""How much each part of the loss counts, and from which step on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from ...errors import InputError

PARTS = ("l1", "perceptual", "gan", "feature_matching", "mouth_gan", "mouth_feature_matching", "sync")


@dataclass(frozen=True)
class LossWeights:
    """Weight of every part; 0 leaves a part out, and then what it needs is neither loaded nor computed.

    l1: mean absolute difference of the whole picture.
    perceptual: VGG19 features.
    gan, feature_matching: the discriminator of the whole picture.
    mouth_gan, mouth_feature_matching: the discriminator of the mouth.
    sync: SyncNet; needs 16 consecutive frames.
    gan_start: first step at which both discriminators are trained and both GAN losses count.
    feature_matching_start: first step at which both feature matching losses count.
    """

    l1: float = 1.0
    perceptual: float = 0.0
    gan: float = 0.0
    feature_matching: float = 0.0
    mouth_gan: float = 0.0
    mouth_feature_matching: float = 0.0
    sync: float = 0.0
    gan_start: int = 0
    feature_matching_start: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value >= 0:
                raise InputError(f"loss weight {field.name} is {value}; it has to be 0 or more")

    def at(self, step: int) -> dict[str, float]:
        """The weights that are not 0 at ``step``, counted from 0 in optimiser steps."""
        weights: dict[str, float] = {name: getattr(self, name) for name in PARTS}
        for name in ("gan", "mouth_gan"):
            weights[name] *= step >= self.gan_start
        for name in ("feature_matching", "mouth_feature_matching"):
            weights[name] *= step >= self.feature_matching_start
        return {name: weight for name, weight in weights.items() if weight > 0}

    def total(self, parts: Mapping[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of ``parts`` at ``step``, and the same parts unweighted and detached, for the log.

        parts: scalars by name; a part whose weight is 0 at ``step`` is logged but not added.
        Raises InputError when a part that counts is not among them.
        """
        weights = self.at(step)
        missing = [name for name in weights if name not in parts]
        if missing or not weights:
            what = f"{', '.join(missing)} was not computed" if missing else f"no loss counts at step {step}"
            raise InputError(f"{what}; change the loss weights {self}")
        total = sum(weight * parts[name] for name, weight in weights.items())
        assert isinstance(total, Tensor)
        return total, {name: part.detach() for name, part in parts.items()}


PRESETS: Mapping[str, LossWeights] = {
    # The total of the paper (arXiv 2410.10122): reconstruction + 0.01 perceptual + 0.01 GAN + 0.03 sync, no start
    # named. The mouth's discriminator and feature matching are known from upstream's code alone.
    "paper": LossWeights(l1=1.0, perceptual=0.01, gan=0.01, sync=0.03),
    # TMElyralab/MuseTalk, configs/training/stage1.yaml: l1_loss 1.0, vgg_loss 0.01; gan, mouth_gan and sync 0.
    "upstream_stage1": LossWeights(l1=1.0, perceptual=0.01),
    # TMElyralab/MuseTalk, configs/training/stage2.yaml.
    "upstream": LossWeights(
        l1=1.0,  # l1_loss
        perceptual=0.01,  # vgg_loss
        gan=0.01,  # gan_loss
        feature_matching=1.0,  # train.py adds fm_loss as it is, without gan_loss's factor
        mouth_gan=0.01,  # mouth_gan_loss
        mouth_feature_matching=1.0,  # train.py, as above
        sync=0.05,  # sync_loss; the paper says 0.03
        gan_start=1000,  # discriminator_train_params.start_gan, there in micro-steps
        feature_matching_start=0,  # train.py: not held back, so it begins on an untrained discriminator
    ),
}
