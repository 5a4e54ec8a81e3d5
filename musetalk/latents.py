"""Face crops to latents and latents to faces, through the VAE (spec section 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from .errors import InputError
from .face.upright import Turn, cut_upright
from .halving import run_in_halves

if TYPE_CHECKING:
    from .models import Models

FACE_SIZE = 256
SCALING_FACTOR = 0.18215
_MASKED_FROM_ROW = FACE_SIZE // 2
# One image at a time keeps a CPU's activations in its cache; a GPU wants them all.
_CPU_VAE_BATCH = 1


def crop_face(frame: np.ndarray, box: tuple[int, int, int, int], turn: Turn | None = None) -> np.ndarray:
    """The face box of a uint8 RGB ``[H, W, 3]`` frame as uint8 ``[256, 256, 3]`` (Lanczos, no antialiasing).

    turn: the box lies in the frame turned upright by it, and is cut out in the same one resampling.
    """
    if turn is not None:
        return cut_upright(frame, box, turn, (FACE_SIZE, FACE_SIZE), cv2.INTER_LANCZOS4)
    x0, y0, x1, y1 = box
    return cv2.resize(frame[y0:y1, x0:x1], (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LANCZOS4)


def vae_inputs(crops: np.ndarray) -> torch.Tensor:
    """Crops, uint8 RGB ``[n, 256, 256, 3]``, to the VAE's inputs, float32 ``[n, 2, 3, 256, 256]``: masked, whole.

    Values lie in [-1, 1]; the lower half of the masked copy is exactly -1.
    """
    whole = torch.from_numpy(crops.astype(np.float64) / 255.0).float().permute(0, 3, 1, 2)
    whole = (whole - 0.5) / 0.5
    masked = whole.clone()
    masked[:, :, _MASKED_FROM_ROW:] = -1.0
    return torch.stack([masked, whole], dim=1)


@torch.inference_mode()
def encode_faces(models: Models, crops: np.ndarray, noise: torch.Generator | None = None) -> torch.Tensor:
    """Latents of face crops: uint8 RGB ``[n, 256, 256, 3]`` to float32 ``[n, 8, 32, 32]`` on the CPU, scaled.

    Channels 0-3 are the masked copy, 4-7 the whole crop. noise: draw from the posterior with this CPU generator, in
    upstream's order (masked, then whole, frame by frame); None takes the posterior's mean.
    """
    images = vae_inputs(crops).flatten(0, 1)
    batch = _CPU_VAE_BATCH if models.device.type == "cpu" else len(images)

    def moments(part: torch.Tensor) -> torch.Tensor:
        return torch.stack(models.vae.encode(_to_models(part, models)), dim=1).float().cpu()

    means, logvars = torch.cat([run_in_halves(moments, part) for part in images.split(batch)]).unbind(dim=1)
    latents = means
    if noise is not None:
        draws = torch.cat([torch.randn(1, *means.shape[1:], generator=noise) for _ in range(len(means))])
        latents = means + (logvars * 0.5).exp() * draws
    return (latents * SCALING_FACTOR).unflatten(0, (len(crops), 2)).flatten(1, 2)


@torch.inference_mode()
def decode_batch(models: Models, latents: torch.Tensor) -> np.ndarray:
    """Scaled latents ``[n, 4, 32, 32]`` on any device to uint8 RGB ``[n, 256, 256, 3]``, in halves where need be."""
    batch = _CPU_VAE_BATCH if models.device.type == "cpu" else max(1, len(latents))
    parts = [run_in_halves(partial(decode_at_once, models), part) for part in latents.split(batch)]
    return torch.cat(parts).numpy()


def decode_at_once(models: Models, latents: torch.Tensor) -> torch.Tensor:
    """What :func:`decode_batch` gives, on the CPU; raises torch.OutOfMemoryError where it does not fit the device."""
    # Divided before the cast, as upstream does.
    images = models.vae.decode(_to_models(latents / SCALING_FACTOR, models))
    images = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float()
    return (images * 255).round().to(torch.uint8).cpu()


def decode_faces(
    models: Models,
    latents: torch.Tensor,
    batch_size: int = 8,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Decode predicted latents to faces.

    latents: scaled, ``[N, 4, 32, 32]``. Returns uint8 RGB ``[N, 256, 256, 3]``. progress(done, total) is called after
    each batch; an exception it raises stops the work. Raises InputError for latents of another shape.
    """
    if latents.ndim != 4 or latents.shape[1] != 4:
        raise InputError(f"latents have shape {list(latents.shape)}; expected [N, 4, 32, 32]")
    faces = np.empty((len(latents), 8 * latents.shape[2], 8 * latents.shape[3], 3), dtype=np.uint8)
    for start in range(0, len(latents), batch_size):
        stop = min(start + batch_size, len(latents))
        faces[start:stop] = decode_batch(models, latents[start:stop])
        if progress is not None:
            progress(stop, len(latents))
    return faces


def _to_models(images: torch.Tensor, models: Models) -> torch.Tensor:
    return images.to(models.device, models.dtype, memory_format=torch.channels_last)
