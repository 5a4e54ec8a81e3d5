"""LPIPS, where its library and weights are on this machine."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib import import_module

import numpy as np
import torch

from ..errors import InputError, ModelFileError
from .hub_weights import hub_weights

PerceptualMap = Callable[[np.ndarray, np.ndarray], np.ndarray]
_BACKBONE, _BACKBONE_URL = "alexnet-owt-7be5be79.pth", "https://download.pytorch.org/models"
# AlexNet's five layers leave nothing of smaller pictures.
MIN_SIDE = 64


def load_lpips(device: str | torch.device | None = None) -> PerceptualMap | str:
    """A function of two pictures, uint8 RGB ``[H, W, 3]``, to their LPIPS (AlexNet) map, float32 ``[H, W]``;
    H and W at least ``MIN_SIDE``.

    Or the reason, in words, why there is none. Nothing is downloaded: AlexNet's weights have to be where torchvision
    keeps them.
    """
    try:
        lpips = import_module("lpips")
    except ImportError as error:
        return f"lpips is not installed ({error}): pip install lpips torchvision"
    except RuntimeError as error:  # a torchvision that was built for another torch
        return f"lpips cannot be loaded ({error}): install the torchvision that belongs to this torch"
    try:
        hub_weights(_BACKBONE, _BACKBONE_URL)
    except (InputError, ModelFileError) as error:
        return f"LPIPS stands on torchvision's AlexNet: {error}"
    # It prints how it sets itself up, and calls torchvision in a way that torchvision warns of.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="alex", spatial=True, verbose=False).eval().to(device or "cpu")

    def compare(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pair = torch.from_numpy(np.stack([first, second])).to(device or "cpu").permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            distance: torch.Tensor = network(pair[:1], pair[1:])
        return np.asarray(distance[0, 0].cpu().numpy(), np.float32)

    return compare
