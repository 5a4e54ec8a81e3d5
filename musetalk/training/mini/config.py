"""What a training of musetalk-mini is told, stage by stage; read from YAML (``configs/mini.yaml``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ...errors import InputError
from ...models.audio_encoder import WhisperConfig
from ...models.unet import UNetConfig
from ...models.vae import VAEConfig
from ..config import _at_least, _plain
from ..settings import build, read_yaml, with_overrides

S = TypeVar("S", bound="StageConfig")


@dataclass(frozen=True)
class StageConfig:
    """What every stage is told.

    steps: optimiser steps. batch_size: samples of a step; 30 s segments, pictures or frames.
    lr: of Muon. adam_lr: of Adam, for what is no matrix. Both rise over ``warmup`` steps and fall linearly to 0 over
        the last ``decay`` part of the steps.
    precision: of the forward pass. clip: the longest gradient.
    validate_every, checkpoint_every: steps.
    """

    steps: int
    batch_size: int
    lr: float = 0.02
    adam_lr: float = 2e-3
    warmup: int = 30
    decay: float = 0.4
    clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "bf16"
    validate_every: int = 500
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "checkpoint_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("lr", "adam_lr", "clip"):
            _at_least(name, getattr(self, name), 0.0)
        _at_least("warmup", self.warmup, 0)
        if not 0 < self.decay <= 1:
            raise InputError(f"decay is {self.decay}; it must be above 0 and at most 1")

    def share(self, step: int) -> float:
        """The part of the full learning rate that step ``step``, from 0, goes with."""
        left = (self.steps - step) / (self.decay * self.steps)
        return min(1.0, (step + 1) / max(1, self.warmup), left)


@dataclass(frozen=True)
class AudioStageConfig(StageConfig):
    """The audio encoder, taught to tell mouth poses from speech.

    fresh: new 30 s segments of speech per step; ``pool`` segments are at hand to draw a batch from.
    loud: weight of the mean square, above 1, of the states of layers but the last.
    channels, layers, heads, ffn_channels: see `WhisperConfig`.
    """

    channels: int = 128
    layers: int = 4
    heads: int = 4
    ffn_channels: int = 512
    fresh: int = 1
    pool: int = 64
    loud: float = 0.02

    def network(self) -> WhisperConfig:
        return WhisperConfig(
            channels=self.channels, layers=self.layers, heads=self.heads, ffn_channels=self.ffn_channels
        )


@dataclass(frozen=True)
class VAEStageConfig(StageConfig):
    """The autoencoder.

    kl: weight of the posterior's divergence. gradient: of the loss of pictures' differences. blurred: of the loss of
    pictures averaged over 16 x 16 pixels, by which colours are learnt early.
    widths, groups: see `VAEConfig`.
    """

    widths: tuple[int, ...] = (16, 16, 48, 96)
    groups: int = 8
    kl: float = 1e-4
    gradient: float = 0.5
    blurred: float = 0.5

    def network(self) -> VAEConfig:
        return VAEConfig(block_out_channels=self.widths, layers_per_block=1, norm_num_groups=self.groups)


@dataclass(frozen=True)
class UNetStageConfig(StageConfig):
    """The UNet, on the latents of shots: one still in one light, its mouth in many poses.

    pool: shots at hand to draw a batch from. steps_per_shot: a new one takes the place of the oldest every so many
        steps. frames: of each shot.
    mouth: weight of where a shot's latents move most, besides 1 in the lower and ``upper`` in the upper half.
    shut: how often a frame that must be shut counts.
    widths, attention, groups, heads: see `UNetConfig`.
    """

    pool: int = 128
    steps_per_shot: int = 6
    frames: int = 40
    mouth: float = 4.0
    upper: float = 0.3
    shut: float = 2.5
    widths: tuple[int, ...] = (64, 128, 192)
    attention: tuple[bool, ...] = (False, False, True)
    groups: int = 32
    heads: int = 4

    def network(self, audio: WhisperConfig) -> UNetConfig:
        return UNetConfig(
            block_out_channels=self.widths,
            attention=self.attention,
            layers_per_block=1,
            cross_attention_dim=audio.channels,
            heads=self.heads,
            norm_num_groups=self.groups,
        )


@dataclass(frozen=True)
class FacesConfig:
    """Which faces the pictures show.

    drawn: how many drawn faces. varied: how many persons made of the photographs. held_out: how many more of each
        there are to validate with.
    photographs, variations: shares of pictures that show a photograph as it is, and one made of them; the others are
    drawn.
    """

    drawn: int = 400
    varied: int = 400
    held_out: int = 48
    photographs: float = 0.3
    variations: float = 0.35

    def __post_init__(self) -> None:
        for name in ("drawn", "varied"):
            _at_least(name, getattr(self, name), 1)
        _at_least("held_out", self.held_out, 2)
        for name in ("photographs", "variations"):
            _at_least(name, getattr(self, name), 0.0)
        if self.photographs + self.variations > 1:
            raise InputError("photographs and variations are shares of one whole; they must not exceed 1 together")


@dataclass(frozen=True)
class MiniConfig:
    """One training of musetalk-mini. output: its folder. seed: of everything that is drawn."""

    output: Path
    audio: AudioStageConfig
    vae: VAEStageConfig
    unet: UNetStageConfig
    faces: FacesConfig = field(default_factory=FacesConfig)
    seed: int = 42

    def scaled(self, share: float) -> MiniConfig:
        """The same recipe at a part of its length: steps, shots and faces."""
        if not 0 < share <= 1:
            raise InputError(f"scale is {share}; it must be above 0 and at most 1")

        def less(number: int, least: int = 1) -> int:
            return max(least, round(number * share))

        def shorter(stage: S) -> S:
            return replace(
                stage,
                steps=less(stage.steps),
                validate_every=less(stage.validate_every),
                checkpoint_every=less(stage.checkpoint_every),
            )

        return replace(
            self,
            audio=shorter(self.audio),
            vae=shorter(self.vae),
            unet=replace(shorter(self.unet), pool=less(self.unet.pool, 4)),
            faces=replace(self.faces, drawn=less(self.faces.drawn, 4), varied=less(self.faces.varied, 4)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Nested, with paths as texts, for JSON."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def read_mini_config(path: Path, overrides: Sequence[str] = ()) -> MiniConfig:
    """A training from a YAML file and ``section.key=value`` texts.

    Raises InputError naming the file or the key for anything unknown, missing, of another type or impossible.
    """
    return build(MiniConfig, with_overrides(read_yaml(path), overrides))
