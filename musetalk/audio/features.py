"""The audio stage: a sound and a frame rate to windows for the UNet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from typing import Any

import torch

from ..errors import InputError
from ..models import Models
from .source import AudioSource
from .waveform import load_waveform
from .windows import AudioWindows, upstream_window_starts, window_starts

MAX_FPS = 240


def open_windows(
    models: Models,
    source: AudioSource,
    fps: Fraction,
    *,
    parity: bool = False,
    check_cancelled: Callable[[], None] | None = None,
) -> AudioWindows:
    """Decode a sound and make its windows ready, to be encoded as they are asked for.

    fps: frames per second of the video to be driven. parity: upstream's window maths (spec section 2.2).
    Raises InputError for a frame rate out of range or a sound that cannot be used.
    """
    if not 0 < fps <= MAX_FPS:
        raise InputError(f"fps is {fps}; it must be above 0 and at most {MAX_FPS}")
    waveform = load_waveform(source, check_cancelled)
    samples = len(waveform)
    starts = upstream_window_starts(samples, float(fps)) if parity else window_starts(samples, fps)

    @torch.inference_mode()
    def hidden_states(mel: torch.Tensor) -> torch.Tensor:
        return models.audio_encoder(mel.to(models.device, models.dtype))

    return AudioWindows(waveform, hidden_states, starts)


def audio_features(
    models: Models, waveform: Any, sample_rate: int, fps: Fraction | float = 25, *, parity: bool = False
) -> torch.Tensor:
    """Audio features of a waveform, one window per video frame.

    waveform: float32 ``[T]`` or ``[C, T]``, numpy or torch, any rate. fps: frames per second; floats such as 29.97 and
    23.976 stand for 30000/1001 and 24000/1001. Returns float32 ``[N, 50, C]``, before positional encoding (spec
    section 2.1); C is the width of the audio encoder, 384 as published. Raises InputError for an empty or non-finite
    waveform.
    """
    source = AudioSource.from_array(waveform, sample_rate)
    with closing(open_windows(models, source, exact_fps(fps), parity=parity)) as windows:
        return windows[:]


def exact_fps(fps: Fraction | float) -> Fraction:
    """A frame rate as a fraction: 29.97 is 30000/1001; other rates to the nearest thousandth."""
    if isinstance(fps, (Fraction, int)):
        return Fraction(fps)
    if not 0 < fps < float("inf"):
        raise InputError(f"fps is {fps}; it must be a positive number")
    ntsc = Fraction(round(fps) * 1000, 1001)
    # 0.005 accepts the common spellings 23.98, 23.976, 29.97, 59.94.
    if abs(float(ntsc) - fps) < 0.005 and abs(round(fps) - fps) > 0.005:
        return ntsc
    return Fraction(fps).limit_denominator(1000)
