"""Weights that other libraries keep in torch's hub folder: found there, never downloaded."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import InputError, ModelFileError


def hub_weights(name: str, address: str) -> Path:
    """The file ``name`` of torch's hub folder.

    The libraries read it as a pickle that may run anything, so it is looked through first: it has to be plain tensors.
    Raises InputError where it is absent, naming the ``address`` to fetch it from, and ModelFileError for other content.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        raise InputError(f"{path} is missing; fetch {address}/{name} and put it there")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises has no common base
        raise ModelFileError(
            f"{path} is damaged or holds more than weights ({type(error).__name__}); fetch it again"
        ) from error
    return path
