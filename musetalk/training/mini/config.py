"""What a training of musetalk-mini is told, stage by stage; read from YAML (``configs/mini.yaml``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ...audio.mel import SEGMENT_SAMPLES
from ...audio.waveform import SAMPLE_RATE
from ...errors import InputError
from ...models.audio_encoder import WhisperConfig
from ...models.unet import UNetConfig
from ...models.vae import VAEConfig
from ..limits import at_least, between
from ..settings import build, read_yaml, to_plain, with_overrides

S = TypeVar("S", bound="StageConfig")

LONGEST = SEGMENT_SAMPLES / SAMPLE_RATE
"""Seconds that an audio encoder hears at once."""
HELD_OUT_MARGIN = 25
"""Frames at both ends of a segment that no validation looks at."""
_SHORTEST = 5.0
_FPS = 25
_VAE_LEVELS = 4


@dataclass(frozen=True)
class StageConfig:
    """What every stage is told.

    steps: optimiser steps. batch_size: samples of a step; 30 s segments, pictures or frames.
    lr: of Muon. adam_lr: of Adam, for what is no matrix. Both rise over ``warmup`` steps and fall linearly to 0 over
        the last ``decay`` part of the steps.
    precision: of the forward pass. clip: the longest gradient.
    validate_every, checkpoint_every: steps; these two alone may change between a run and its resumption.
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
            at_least(name, getattr(self, name), 1)
        for name in ("lr", "adam_lr"):
            at_least(name, getattr(self, name), 0.0)
        if not self.clip > 0:
            raise InputError(f"clip is {self.clip}; it must be above 0, or nothing is learnt")
        at_least("warmup", self.warmup, 0)
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

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("loud", self.loud, 0.0)
        for name in ("layers", "heads", "ffn_channels"):
            at_least(name, getattr(self, name), 1)
        at_least("channels", self.channels, 4)
        _divides("heads", self.heads, "channels", (self.channels,))
        _divides("sines and cosines,", 2, "channels", (self.channels,))
        between("fresh", self.fresh, 0, self.pool)
        if self.batch_size > self.pool:
            raise InputError(f"batch_size is {self.batch_size}, but pool holds {self.pool} segments to draw from")

    def network(self) -> WhisperConfig:
        return WhisperConfig(
            channels=self.channels, layers=self.layers, heads=self.heads, ffn_channels=self.ffn_channels
        )


@dataclass(frozen=True)
class VAEStageConfig(StageConfig):
    """The autoencoder.

    kl: weight of the posterior's divergence. gradient: of the loss of pictures' differences. blurred: of the loss of
    pictures averaged over 16 x 16 pixels, by which colours are learnt early.
    scaled_by: pictures by which its latents are scaled in the end.
    held_out: pictures of each kind of face to validate with.
    widths, groups: see `VAEConfig`; four widths, since a latent stands for 8 x 8 pixels.
    """

    widths: tuple[int, ...] = (16, 16, 48, 96)
    groups: int = 8
    kl: float = 1e-4
    gradient: float = 0.5
    blurred: float = 0.5
    scaled_by: int = 96
    held_out: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kl", "gradient", "blurred"):
            at_least(name, getattr(self, name), 0.0)
        for name in ("groups", "held_out", "scaled_by"):
            at_least(name, getattr(self, name), 1)
        if len(self.widths) != _VAE_LEVELS:
            raise InputError(f"widths are {list(self.widths)}; give {_VAE_LEVELS} of them")
        _divides("groups", self.groups, "widths", self.widths)

    def network(self) -> VAEConfig:
        return VAEConfig(block_out_channels=self.widths, layers_per_block=1, norm_num_groups=self.groups)


@dataclass(frozen=True)
class UNetStageConfig(StageConfig):
    """The UNet, on the latents of shots: one still in one light, its mouth in many poses.

    pool: shots at hand to draw a batch from. steps_per_shot: a new one takes the place of the oldest every so many
        steps. frames: of each shot.
    mouth: weight of where a shot's latents move most, besides 1 in the lower and ``upper`` in the upper half.
    shut: how often a frame that must be shut counts.
    held_out_faces: of the varied and of the drawn ones that training never sees, to validate with besides the
        photographs. held_out_frames: of each of them.
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
    held_out_faces: int = 2
    held_out_frames: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mouth", "upper", "shut"):
            at_least(name, getattr(self, name), 0.0)
        for name in ("pool", "steps_per_shot", "groups", "heads", "held_out_faces"):
            at_least(name, getattr(self, name), 1)
        # One frame does not move.
        for name in ("frames", "held_out_frames"):
            at_least(name, getattr(self, name), 2)
        if len(self.widths) != len(self.attention):
            raise InputError(
                f"widths are {list(self.widths)} and attention is {list(self.attention)}; give one of each per level"
            )
        _divides("groups", self.groups, "widths", self.widths)
        _divides("heads", self.heads, "widths", self.widths)

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
            at_least(name, getattr(self, name), 1)
        at_least("held_out", self.held_out, 2)
        for name in ("photographs", "variations"):
            at_least(name, getattr(self, name), 0.0)
        if self.photographs + self.variations > 1:
            raise InputError("photographs and variations are shares of one whole; they must not exceed 1 together")


@dataclass(frozen=True)
class SpeechConfig:
    """What is spoken.

    seconds: of a segment; some end early. held_out: segments to validate the audio encoder with.
    """

    seconds: float = LONGEST
    held_out: int = 8

    def __post_init__(self) -> None:
        between("seconds", self.seconds, _SHORTEST, LONGEST)
        at_least("held_out", self.held_out, 1)


@dataclass(frozen=True)
class MiniConfig:
    """One training of musetalk-mini. output: its folder. seed: of everything that is drawn."""

    output: Path
    audio: AudioStageConfig
    vae: VAEStageConfig
    unet: UNetStageConfig
    faces: FacesConfig = field(default_factory=FacesConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    seed: int = 42

    def __post_init__(self) -> None:
        between("seed", self.seed, 0, 2**31 - 1)
        if self.unet.held_out_faces > self.faces.held_out:
            raise InputError(
                f"unet.held_out_faces is {self.unet.held_out_faces}, but faces.held_out is only {self.faces.held_out}"
            )
        longest = int(self.speech.seconds * _FPS) - 2 * HELD_OUT_MARGIN - 1
        if self.unet.held_out_frames > longest:
            raise InputError(
                f"unet.held_out_frames is {self.unet.held_out_frames}, but {self.speech.seconds} s of speech leave "
                f"room for {longest}; lower it or raise speech.seconds"
            )

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
        return to_plain(self)


def read_mini_config(path: Path, overrides: Sequence[str] = ()) -> MiniConfig:
    """A training from a YAML file and ``section.key=value`` texts.

    Raises InputError naming the file or the key for anything unknown, missing, of another type or impossible.
    """
    return build(MiniConfig, with_overrides(read_yaml(path), overrides))


def _divides(what: str, divisor: int, name: str, numbers: Sequence[int]) -> None:
    if any(number < 1 or number % divisor for number in numbers):
        raise InputError(f"{name} {', '.join(map(str, numbers))} must be multiples of {what} {divisor}")
