"""How far a mouth is open, read off its latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_RIDGE = 0.02


class OpeningProbe:
    """A ridge regression for one face in one light, fitted to known poses; a monitor for training, no final judge."""

    def __init__(self, latents: Tensor, openings: np.ndarray) -> None:
        """latents: float32 ``[F, 4, 32, 32]``. openings: float32 ``[F]``."""
        rows = self._rows(latents)
        self._mean, self._level = rows.mean(dim=0), float(openings.mean())
        rows = rows - self._mean
        kernel = rows @ rows.T
        damped = kernel + _RIDGE * kernel.diagonal().mean() * torch.eye(len(rows))
        self._weights = rows.T @ torch.linalg.solve(damped, torch.from_numpy(openings - self._level))

    def __call__(self, latents: Tensor) -> np.ndarray:
        """Openings ``[F]`` of latents ``[F, 4, 32, 32]``, in the unit it was fitted to."""
        openings: np.ndarray = ((self._rows(latents) - self._mean) @ self._weights).numpy() + self._level
        return openings

    @staticmethod
    def _rows(latents: Tensor) -> Tensor:
        return latents[:, :, latents.shape[2] // 2 :].flatten(1)
