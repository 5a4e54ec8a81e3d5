"""The mel spectrogram SyncNet was trained on: Wav2Lip's (spec section 8.2), 80 columns a second."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from .mel import _hz_to_mel, _mel_to_hz
from .waveform import SAMPLE_RATE

WINDOW_COLUMNS = 52
_N_FFT = 800
_HOP = 200
_MEL_BINS = 80
_MIN_HZ = 55.0
_MAX_HZ = 7_600.0
_PREEMPHASIS = 0.97
_REFERENCE_DB = 20.0
_MIN_DB = -100.0
_MAX_VALUE = 4.0
_COLUMNS_PER_SECOND = SAMPLE_RATE // _HOP


def sync_mel(samples: np.ndarray) -> torch.Tensor:
    """float32 ``[n]`` at 16 kHz to float32 ``[80, 1 + n // 200]`` in [-4, 4]; column c is centred on sample 200 c.

    Outside the sound is silence. Raises InputError for no samples at all.
    """
    if len(samples) == 0:
        raise InputError("the sound has no samples; SyncNet needs the sound of the frames")
    return _columns(samples, 0, 1 + len(samples) // _HOP)


def sync_mel_window(samples: np.ndarray, start_frame: int, fps: Fraction = Fraction(25)) -> torch.Tensor:
    """The columns of the 16 frames (at 25 fps) from ``start_frame`` on: ``sync_mel(samples)[:, c : c + 52]``.

    samples: float32 ``[n]`` at 16 kHz, the whole sound that begins with frame 0; only the part needed is transformed.
    start_frame: c is ``floor(80 * start_frame / fps)``, exact.
    Returns float32 ``[80, 52]``. Raises InputError when the window does not lie within the sound.
    """
    first = start_frame * _COLUMNS_PER_SECOND * fps.denominator // fps.numerator
    available = 1 + len(samples) // _HOP
    if first < 0 or first + WINDOW_COLUMNS > available:
        raise InputError(
            f"the sync window of frame {start_frame} needs mel columns {first} to {first + WINDOW_COLUMNS - 1}, "
            f"the sound of {len(samples) / SAMPLE_RATE:.2f} s has {available}; start earlier"
        )
    return _columns(samples, first, WINDOW_COLUMNS)


def _columns(samples: np.ndarray, first: int, count: int) -> torch.Tensor:
    # In double precision, as the original's filter makes it: the quietest bins are small differences of large numbers.
    start = first * _HOP - _N_FFT // 2
    stop = start + (count - 1) * _HOP + _N_FFT
    inside = torch.from_numpy(samples[max(start - 1, 0) : max(stop, 0)].astype(np.float64))
    # The filter needs the sample before the first; the silence after the sound is silence of the filtered sound.
    filtered = F.pad(inside, (max(1 - start, 0), 0))
    filtered = filtered[1:] - _PREEMPHASIS * filtered[:-1]
    filtered = F.pad(filtered, (0, max(stop - len(samples), 0)))
    window = torch.hann_window(_N_FFT, dtype=torch.float64)
    spectrum = torch.stft(filtered, _N_FFT, _HOP, window=window, center=False, return_complex=True)
    mel = _filters() @ spectrum.abs()
    decibels = 20.0 * mel.clamp(min=10.0 ** (_MIN_DB / 20.0)).log10() - _REFERENCE_DB
    scaled = 2.0 * _MAX_VALUE * (decibels - _MIN_DB) / -_MIN_DB - _MAX_VALUE
    return scaled.clamp(-_MAX_VALUE, _MAX_VALUE).float()


@lru_cache(maxsize=1)
def _filters() -> torch.Tensor:
    """Slaney's area-normalised triangular filters, float64 ``[80, 401]``, 55 to 7,600 Hz."""
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, _N_FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(_MIN_HZ), _hz_to_mel(_MAX_HZ), _MEL_BINS + 2))
    slopes = edges[:, None] - frequencies
    widths = np.diff(edges)[:, None]
    rising = -slopes[:-2] / widths[:-1]
    falling = slopes[2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(filters)
