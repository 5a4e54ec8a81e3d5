"""The one UNet pass: footage latents and audio windows to predicted latents (spec sections 2.3 and 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from .errors import InputError
from .halving import run_in_halves
from .playback import check_loop, source_indices

if TYPE_CHECKING:
    from .avatar import Avatar
    from .models import Models

TOKENS = 50
_LISTENERS = {384: "the published MuseTalk models", 128: "musetalk-mini"}


@lru_cache
def positional_encoding(channels: int) -> torch.Tensor:
    """The sinusoidal table added to audio tokens, float32 ``[50, channels]``: sines in even, cosines in odd columns.

    channels: the width of the audio encoder, which is also the UNet's ``cross_attention_dim``; 384 as published.
    """
    position = torch.arange(TOKENS, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, channels, 2).float() * (-math.log(10000.0) / channels))
    table = torch.zeros(TOKENS, channels)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)
    return table


@torch.inference_mode()
def predict_latents(models: Models, latents: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """One batch through the UNet, in halves where it does not fit the device.

    latents: float32 ``[n, 8, 32, 32]``. windows: float32 ``[n, 50, C]`` before positional encoding, C the width of the
    models' audio encoder. Returns the predicted scaled latents ``[n, 4, 32, 32]`` on the models' device, in their
    dtype.
    """
    return run_in_halves(models.unet, unet_latents(models, latents), unet_tokens(models, windows))


def unet_latents(models: Models, latents: torch.Tensor) -> torch.Tensor:
    """Latents ``[n, 8, 32, 32]`` as the UNet takes them."""
    return latents.to(models.device, models.dtype, memory_format=torch.channels_last)


def unet_tokens(models: Models, windows: torch.Tensor) -> torch.Tensor:
    """Audio windows ``[n, 50, C]`` as the UNet takes them: with their positions."""
    positions = positional_encoding(windows.shape[-1]).to(models.device, models.dtype)
    return windows.to(models.device, models.dtype) + positions


def inpaint(
    models: Models,
    avatar: Avatar,
    features: torch.Tensor,
    batch_size: int = 8,
    *,
    loop: str = "ping-pong",
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Predict the latents of every output frame.

    features: float32 ``[N, 50, C]`` from :func:`audio_features` of the same models. Returns float32 ``[N, 4, 32, 32]``
    on the CPU, as the UNet gives them (scaled by 0.18215). Output frame i uses source frame ``source_index(i)``; where
    that frame has no face the row is zeros and the paste leaves the frame untouched. progress(done, total) is called
    after each batch; an exception it raises stops the work. Raises InputError for features of another shape, and for
    those of other models where the width tells.
    """
    check_features(models, features)
    check_loop(loop)
    sources = source_indices(0, len(features), len(avatar.frames), loop)
    with_face = [i for i, source in enumerate(sources) if avatar.track.valid[source]]
    predicted = torch.zeros(len(features), 4, *avatar.latents.shape[2:])
    for start in range(0, len(with_face), batch_size):
        batch = with_face[start : start + batch_size]
        latents = avatar.latents_of([sources[i] for i in batch])
        predicted[batch] = predict_latents(models, latents, features[batch]).float().cpu()
        if progress is not None:
            progress(start + len(batch), len(with_face))
    return predicted


def check_features(models: Models, features: torch.Tensor) -> None:
    """Refuse anything but ``[N, 50, C]`` audio features of the width C that the models' UNet listens to."""
    channels = models.unet.config.cross_attention_dim
    if features.ndim != 3 or features.shape[1] != TOKENS:
        raise InputError(f"audio features have shape {list(features.shape)}; expected [N, {TOKENS}, {channels}]")
    if features.shape[2] != channels:
        raise InputError(
            f"audio features have {features.shape[2]} channels, as {listeners(features.shape[2])} make them, but these "
            f"models take {channels}, as {listeners(channels)} do; make the features with the models that draw"
        )


def listeners(channels: int) -> str:
    """In words, whose audio features have that many channels."""
    return _LISTENERS.get(channels, "models of another size")
