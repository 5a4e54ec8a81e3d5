"""Shots: one face in one light saying something, ready for the UNet to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ...audio.mel import SEGMENT_SAMPLES
from ...audio.windows import WINDOW_STEPS, window_starts
from ...latents import SCALING_FACTOR, vae_inputs
from ...models.audio_encoder import WhisperEncoder
from ...models.vae import AutoencoderKL
from ..synthetic.still import Still
from ..synthetic.take import Take
from ..synthetic.warp import render
from .pictures import to_tensor
from .speech import SpeechSegment

_BATCH = 4
_FPS = Fraction(25)


@dataclass(frozen=True)
class Shot:
    """Latents are scaled as the UNet meets them; the head does not move within a shot.

    masked: float32 ``[4, 32, 32]``, the face with its lower half blanked.
    mouths: float32 ``[F + 1, 4, 32, 32]``, the face in F poses, and last as it was found.
    tokens: float32 ``[F, 50, C]``, the audio window of each pose, before positional encoding.
    shut: bool ``[F]``. openings: float32 ``[F]``, pixels. moves: float32 ``[32, 32]``, how much the latents differ
        from pose to pose, 1 where most.
    """

    masked: Tensor
    mouths: Tensor
    tokens: Tensor
    shut: Tensor
    openings: np.ndarray
    moves: Tensor


class Studio:
    """Films shots with the finished networks of the stages before."""

    def __init__(self, audio: WhisperEncoder, vae: AutoencoderKL, device: torch.device, precision: str) -> None:
        self.device = device
        self._audio, self._vae = audio.to(device), vae.to(device)
        self._half = precision == "bf16"

    def film(self, still: Still, take: Take, time: float, segment: SpeechSegment, frames: np.ndarray) -> Shot:
        """The still saying what is said at these ``frames`` of a segment, filmed at one moment of a take."""
        rendered = [render(still, segment.frames.poses[frame]) for frame in frames]
        pictures = np.stack([take.apply(image, time) for image in [*(one.image for one in rendered), still.picture]])
        masked = self._encode(vae_inputs(pictures[:1])[:, 0])[0]
        mouths = torch.cat([self._encode(part) for part in to_tensor(pictures).split(_BATCH)])
        spread = mouths[:-1].std(dim=0).mean(dim=0)
        return Shot(
            masked,
            mouths,
            self.tokens(segment, frames),
            torch.from_numpy(segment.frames.shut[frames]),
            np.array([one.opening for one in rendered], np.float32),
            spread / spread.max(),
        )

    def tokens(self, segment: SpeechSegment, frames: np.ndarray) -> Tensor:
        """The audio windows of frames, zeros outside the speech as the engine has them; float32 ``[F, 50, C]``."""
        with torch.no_grad(), self._autocast():
            states = self._audio(segment.mel[None].to(self.device))[0].float().cpu()
        steps = window_starts(SEGMENT_SAMPLES, _FPS)[frames, None] + np.arange(WINDOW_STEPS)
        outside = torch.from_numpy((steps < 0) | (steps >= len(segment.steps)))
        windows = states[torch.from_numpy(np.clip(steps, 0, len(segment.steps) - 1))]
        windows[outside] = 0
        return windows.flatten(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``[B, 4, 32, 32]`` to pictures ``[B, 3, 256, 256]`` about [-1, 1], on the CPU."""
        parts = []
        for part in latents.split(_BATCH):
            with torch.no_grad(), self._autocast():
                parts.append(self._vae.decode(part.to(self.device) / SCALING_FACTOR).float().cpu())
        return torch.cat(parts)

    def _encode(self, pictures: Tensor) -> Tensor:
        with torch.no_grad(), self._autocast():
            return self._vae.encode(pictures.to(self.device))[0].float().cpu() * SCALING_FACTOR

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)


def random_frames(segment: SpeechSegment, count: int, rng: np.random.Generator) -> np.ndarray:
    """Frames of a segment in any order; again only where it has too few."""
    there = len(segment.frames.poses)
    return rng.choice(there, count, replace=there < count)
