"""The per-frame stages written the way the original's offline script runs them, for comparison only.

fp32, contiguous tensors, a whole batch through the VAE, and for every output frame: Pillow crops, the face parser, and
a Pillow paste of the whole frame. The networks are this project's own modules with the same weights; the arithmetic
inside them is PyTorch's either way.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image

from musetalk import Models, Profile
from musetalk.face.masks import Box, blending_crop, hard_mask
from musetalk.face.parsing import parse_crops
from musetalk.inpainting import positional_encoding
from musetalk.latents import SCALING_FACTOR


def as_upstream(models: Models) -> Models:
    """fp32 models with plain contiguous weights."""
    for network in (models.unet, models.vae):
        network.to(memory_format=torch.contiguous_format)
    return replace(models)


@torch.no_grad()
def predict(models: Models, latents: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    return models.unet(latents, windows + positional_encoding(windows.shape[-1]))


@torch.no_grad()
def decode(models: Models, latents: torch.Tensor) -> np.ndarray:
    images = models.vae.decode(latents / SCALING_FACTOR)
    images = (images / 2 + 0.5).clamp(0, 1).cpu().permute(0, 2, 3, 1).float().numpy()
    return (images * 255).round().astype("uint8")


def blend(models: Models, frame: np.ndarray, face: np.ndarray, box: Box, profile: Profile) -> np.ndarray:
    """One output frame: parse, mask, paste, all of it for every frame."""
    x0, y0, x1, y1 = box
    sized = cv2.resize(face, (x1 - x0, y1 - y0))
    crop = blending_crop(box, profile.expand)
    body = Image.fromarray(frame)
    large = body.crop(crop)
    assert models.face_parser is not None
    (labels,) = parse_crops(models.face_parser, [np.asarray(large)])
    mask = Image.fromarray(hard_mask(labels, profile)).resize(large.size)
    small = mask.crop((x0 - crop[0], y0 - crop[1], x1 - crop[0], y1 - crop[1]))
    full = Image.new("L", large.size, 0)
    full.paste(small, (x0 - crop[0], y0 - crop[1]))
    alpha = np.array(full)
    alpha[: int(len(alpha) * profile.upper_boundary_ratio)] = 0
    kernel = int(profile.blur_ratio * len(alpha) // 2 * 2) + 1
    alpha = cv2.GaussianBlur(alpha, (kernel, kernel), 0)
    large.paste(Image.fromarray(sized), (x0 - crop[0], y0 - crop[1], x1 - crop[0], y1 - crop[1]))
    body.paste(large, crop[:2], Image.fromarray(alpha))
    return np.array(body)
