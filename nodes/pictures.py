"""Tensors of ComfyUI to arrays of the engine and back; nothing here needs ComfyUI."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from ..musetalk.avatar import Avatar
from ..musetalk.errors import InputError
from ..musetalk.face.masks import PasteMask
from ..musetalk.face.mattes import Mattes
from ..musetalk.face.upright import turn_points_back

_GREEN = (80, 220, 100)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """An IMAGE, float ``[B, H, W, C]`` in 0..1, to uint8 RGB ``[B, H, W, 3]``.

    One picture at a time, so that the float copy stays small. Raises InputError for other shapes.
    """
    if images.ndim != 4 or images.shape[-1] < 3 or 0 in images.shape:
        raise InputError(f"the image input is {list(images.shape)}; connect RGB pictures [B, H, W, 3]")
    pixels = np.empty((*images.shape[:3], 3), np.uint8)
    for place, image in enumerate(images):
        pixels[place] = (image[..., :3].float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels


def fill(target: torch.Tensor, start: int, pixels: np.ndarray) -> None:
    """Write uint8 pictures or masks into rows ``start...`` of an IMAGE or MASK as 0..1."""
    part = torch.from_numpy(pixels).to(target.device)
    target[start : start + len(pixels)] = part.to(torch.float32).div(255).to(target.dtype)


def full_mask(mask: PasteMask | None, size: tuple[int, int]) -> np.ndarray:
    """A paste mask over its whole frame, uint8 ``[H, W]``; zeros without a face. size: width, height."""
    full = np.zeros((size[1], size[0]), np.uint8)
    if mask is not None:
        x0, y0, x1, y1 = mask.region
        full[y0:y1, x0:x1] = mask.alpha
    return full


def to_mattes(mask: torch.Tensor | None, name: str) -> Mattes | None:
    """A MASK, float ``[B, H, W]`` or ``[H, W]`` in 0..1, one for all frames or one per frame, for the engine.

    name: of the input, for messages. Raises InputError for other shapes.
    """
    return None if mask is None else Mattes.from_array(mask.float().cpu().numpy(), f"the {name} input")


def draw_boxes(avatar: Avatar, most: int, longest_side: int) -> np.ndarray:
    """Up to ``most`` frames, spread over the clip, with a frame round what will be redrawn: uint8 ``[n, h, w, 3]``."""
    count = len(avatar.frames)
    indices = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    scale = min(1.0, longest_side / max(avatar.frames.size))
    pictures = []
    for index in indices:
        frame = avatar.frames[int(index)].copy()
        mask = avatar.mask_of(int(index))
        if mask is not None:
            x0, y0, x1, y1 = mask.box
            corners = np.array([(x0, y0), (x1 - 1, y0), (x1 - 1, y1 - 1), (x0, y1 - 1)])
            if mask.turn is not None:
                corners = turn_points_back(corners, mask.turn).round()
            cv2.polylines(frame, [corners.astype(np.int32)], True, _GREEN, max(1, round(2 / scale)))
        pictures.append(
            cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame
        )
    return np.stack(pictures)
