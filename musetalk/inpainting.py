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
CHANNELS = 384


@lru_cache(maxsize=1)
def positional_encoding() -> torch.Tensor:
    """The sinusoidal table added to the audio tokens, float32 ``[50, 384]``: sines in even, cosines in odd columns."""
    position = torch.arange(TOKENS, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, CHANNELS, 2).float() * (-math.log(10000.0) / CHANNELS))
    table = torch.zeros(TOKENS, CHANNELS)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)
    return table


@torch.inference_mode()
def predict_latents(models: Models, latents: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """One batch through the UNet.

    latents: float32 ``[n, 8, 32, 32]``. windows: float32 ``[n, 50, 384]`` before positional encoding. Returns the
    predicted scaled latents ``[n, 4, 32, 32]`` on the models' device, in their dtype.
    """
    tokens = windows.to(models.device, models.dtype) + positional_encoding().to(models.device, models.dtype)
    inputs = latents.to(models.device, models.dtype, memory_format=torch.channels_last)
    return run_in_halves(models.unet, inputs, tokens)


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

    features: float32 ``[N, 50, 384]`` from :func:`audio_features`. Returns float32 ``[N, 4, 32, 32]`` on the CPU, as
    the UNet gives them (scaled by 0.18215). Output frame i uses source frame ``source_index(i)``; where that frame has
    no face the row is zeros and the paste leaves the frame untouched. progress(done, total) is called after each
    batch; an exception it raises stops the work. Raises InputError for features of another shape.
    """
    check_features(features)
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


def check_features(features: torch.Tensor) -> None:
    """Refuse anything but ``[N, 50, 384]`` audio features."""
    if features.ndim != 3 or features.shape[1:] != (TOKENS, CHANNELS):
        raise InputError(f"audio features have shape {list(features.shape)}; expected [N, {TOKENS}, {CHANNELS}]")
