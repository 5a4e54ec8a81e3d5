"""Single pictures of faces, for the autoencoder to learn from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..synthetic.people import People, gather_people
from ..synthetic.still import Still
from ..synthetic.take import Take, random_moment
from ..synthetic.visemes import random_pose
from ..synthetic.warp import render
from .config import FacesConfig
from .seeds import Stream, generator

_AS_FOUND = 0.08


def training_people(config: FacesConfig, seed: int) -> People:
    """The faces that a training sees."""
    return gather_people(generator(Stream.PEOPLE, seed), varied=config.varied, drawn=config.drawn)


def held_out_people(config: FacesConfig, seed: int) -> People:
    """Drawn and varied faces that no training sees, and the photographs, which it does, in other crops."""
    rng = generator(Stream.HELD_OUT_PEOPLE, seed)
    return gather_people(rng, varied=config.held_out, drawn=config.held_out, crops=4)


def draw_picture(still: Still, rng: np.random.Generator) -> np.ndarray:
    """A still in some pose, or as it was found, filmed somehow; uint8 RGB ``[256, 256, 3]``."""
    image = still.picture if rng.random() < _AS_FOUND else render(still, random_pose(rng)).image
    return Take.random(rng).apply(image, random_moment(rng))


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 RGB ``[B, 256, 256, 3]`` to float32 ``[B, 3, 256, 256]`` in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: Tensor) -> np.ndarray:
    """The way back: float ``[B, 3, 256, 256]`` to uint8 RGB ``[B, 256, 256, 3]``."""
    levels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()
