"""The forward pass of training: samples to latents and tokens, one UNet pass, pictures that carry gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..audio.windows import WINDOW_STEPS
from ..inpainting import positional_encoding
from ..latents import FACE_SIZE, SCALING_FACTOR
from ..models.audio_encoder import WhisperEncoder
from ..models.vae import AutoencoderKL

Batch = Mapping[str, Tensor]
# Pictures the frozen encoder sees at once: nothing is kept for a backward pass, so small parts cost no time.
_ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Inputs:
    """What the UNet reads for N frames, and what it should draw; none of it carries gradients.

    latents: float ``[N, 8, 32, 32]``, masked then reference, scaled. windows: float ``[N, 50, C]``, before
    positional encoding. targets: float ``[N, 3, 256, 256]``, RGB in [-1, 1].
    """

    latents: Tensor
    windows: Tensor
    targets: Tensor


class Generator:
    """The UNet between the two frozen networks (spec section 8.4, with the positional encoding inference adds).

    unet: the network to train, bare or wrapped for several processes; called as ``unet(latents, tokens)``.
    vae, audio_encoder: frozen and in evaluation mode.
    """

    def __init__(self, unet: nn.Module, vae: AutoencoderKL, audio_encoder: WhisperEncoder) -> None:
        self.unet = unet
        self.vae = vae
        self.audio_encoder = audio_encoder
        self._positions = positional_encoding(audio_encoder.config.channels)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Inputs:
        """The UNet's inputs for every frame of a batch of clips.

        batch: ``targets`` and ``references`` float ``[B, T, 3, 256, 256]``, ``mel`` float ``[B, 80, 3000]``,
            ``window_starts`` int64 ``[B, T]`` and ``sound_steps`` int64 ``[B]``, on the device of the networks. Frames
            come out clip by clip, N = B T.
        """
        targets = batch["targets"].flatten(0, 1)
        masked, references = self.encode(mask_lower_half(targets)), self.encode(batch["references"].flatten(0, 1))
        states = self.audio_encoder(batch["mel"])
        return Inputs(
            latents=torch.cat((masked, references), dim=1),
            windows=gather_windows(states, batch["window_starts"], batch["sound_steps"]).flatten(0, 1),
            targets=targets,
        )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures ``[N, 3, 256, 256]`` in [-1, 1] to scaled latents ``[N, 4, 32, 32]``: the posterior's mean."""
        means = [self.vae.encode(part)[0] for part in images.split(_ENCODED_AT_ONCE)]
        return torch.cat(means) * SCALING_FACTOR

    def predict(self, inputs: Inputs) -> Tensor:
        """Scaled latents ``[N, 4, 32, 32]`` of the talking faces, with gradients to the UNet."""
        positions = self._positions.to(inputs.windows.device, inputs.windows.dtype)
        latents: Tensor = self.unet(inputs.latents, inputs.windows + positions)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents to pictures ``[N, 3, 256, 256]``, RGB about [-1, 1] and not clamped, with gradients."""
        return self.vae.decode(latents / SCALING_FACTOR)


def mask_lower_half(images: Tensor) -> Tensor:
    """A copy of pictures ``[..., 256, 256]`` in [-1, 1] whose lower half is -1, black (spec section 4)."""
    masked = images.clone()
    masked[..., FACE_SIZE // 2 :, :] = -1.0
    return masked


def gather_windows(states: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """The audio windows of each clip's frames.

    states: ``[B, steps, layers, channels]`` of the audio encoder. starts: int64 ``[B, T]``, the first of the ten steps
        of each frame. lengths: int64 ``[B]``, steps of each clip's sound; those outside it are zeros, as in
        `AudioWindows`. Returns ``[B, T, 10 * layers, channels]``, time-major.
    """
    steps = starts[..., None] + torch.arange(WINDOW_STEPS, device=starts.device)
    inside = (steps >= 0) & (steps < lengths[:, None, None])
    clips = torch.arange(len(states), device=starts.device)[:, None, None]
    windows = states[clips, steps.clamp(0, states.shape[1] - 1)]
    return (windows * inside[..., None, None].to(windows.dtype)).flatten(2, 3)
