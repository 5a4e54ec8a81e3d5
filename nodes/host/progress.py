"""Progress bars, interrupts and the picture that shows what is being made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import comfy.model_management as mm
import comfy.utils
import torch
from PIL import Image

if TYPE_CHECKING:
    from .running import CoreVAE

_LARGEST_PREVIEW = 512
_SECONDS_BETWEEN_PREVIEWS = 0.1
_SECONDS_BETWEEN_UPDATES = 0.05

Interrupted = mm.InterruptProcessingException


def stop_if_interrupted() -> None:
    """Raise ``Interrupted`` when the user has stopped the prompt."""
    mm.throw_exception_if_processing_interrupted()


class Progress:
    """A node's progress bar as the engine's ``progress(done, total)``; raises ``Interrupted`` from within.

    With a VAE, the mouth it decoded last is shown, at most ten times a second.
    """

    def __init__(self, vae: CoreVAE | None = None) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._vae = vae
        self._updated = self._shown = 0.0

    def __call__(self, done: int, total: int) -> None:
        stop_if_interrupted()
        now = time.monotonic()
        if done < total and now - self._updated < _SECONDS_BETWEEN_UPDATES:
            return
        self._updated = now
        preview = None
        if self._vae is not None and self._vae.newest is not None and now - self._shown >= _SECONDS_BETWEEN_PREVIEWS:
            preview = ("JPEG", _picture(self._vae.newest), _LARGEST_PREVIEW)
            self._shown = now
        self._bar.update_absolute(done, max(total, 1), preview)

    def stage(self, name: str, done: int, total: int) -> None:
        """The engine's ``progress(stage, done, total)``; a stage of unknown length only listens for interrupts."""
        if total:
            self(done, total)
        else:
            stop_if_interrupted()


def _picture(image: torch.Tensor) -> Any:
    pixels = (image.detach().float() / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
