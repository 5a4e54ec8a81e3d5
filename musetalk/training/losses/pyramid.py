"""A picture at several sizes, blurred before it is thinned out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError

_CHANNELS = 3


class Pyramid(nn.Module):
    """Pictures at ``scales`` of their size (spec section 8.5).

    scales: each 1 / n for a whole n; 1 is the picture itself.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.steps = tuple(_whole_step(scale) for scale in scales)
        for step in self.steps:
            self.register_buffer(f"kernel_{step}", gaussian_kernel(step), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Float [N, 3, H, W] -> for each scale 1 / n one float [N, 3, ceil(H / n), ceil(W / n)]."""
        return [self._shrink(images, step) for step in self.steps]

    def _shrink(self, images: Tensor, step: int) -> Tensor:
        if step == 1:
            return images
        kernel = self.get_buffer(f"kernel_{step}")
        weight = kernel.expand(_CHANNELS, 1, -1, -1)
        return F.conv2d(images, weight, stride=step, padding=kernel.shape[-1] // 2, groups=_CHANNELS)


def gaussian_kernel(step: int) -> Tensor:
    """The blur before every ``step``-th pixel is taken, float [k, k] of sum 1.

    Sigma is (step - 1) / 2 and k = 2 round(4 sigma) + 1: 1, 5, 13, 29 for the steps 1, 2, 4, 8.
    """
    sigma = (step - 1) / 2
    reach = round(4 * sigma)
    if reach == 0:
        return torch.ones(1, 1)
    profile = torch.exp(-torch.arange(-reach, reach + 1, dtype=torch.float32).square() / (2 * sigma**2))
    kernel = torch.outer(profile, profile)
    return kernel / kernel.sum()


def _whole_step(scale: float) -> int:
    step = round(1 / scale) if 0 < scale <= 1 else 0
    if step == 0 or abs(step * scale - 1) > 1e-6:
        raise InputError(f"pyramid scale {scale} is not one over a whole number; use for example 1, 0.5, 0.25, 0.125")
    return step
