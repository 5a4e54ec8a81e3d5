"""The log-mel spectrogram of whisper (spec section 2.1, step 2)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

SEGMENT_SAMPLES = 480_000
SEGMENT_STEPS = 1_500
_N_FFT = 400
_HOP = 160
_MEL_BINS = 80
_MAX_HZ = 8_000.0


def log_mel(samples: np.ndarray) -> torch.Tensor:
    """Log-mel of one segment: float32 ``[n]`` at 16 kHz, n up to 480,000, to float32 ``[80, 3000]``.

    The samples are padded with zeros to 30 s; the dynamic range is clamped to 8 below this segment's own maximum.
    """
    padded = F.pad(torch.from_numpy(samples.copy()), (0, SEGMENT_SAMPLES - len(samples)))
    spectrum = torch.stft(padded, _N_FFT, _HOP, window=torch.hann_window(_N_FFT), return_complex=True)
    power = spectrum[:, :-1].abs() ** 2
    log_power = (mel_filters().T @ power).clamp(min=1e-10).log10()
    log_power = torch.maximum(log_power, log_power.max() - 8.0)
    return (log_power + 4.0) / 4.0


@lru_cache(maxsize=1)
def mel_filters() -> torch.Tensor:
    """Slaney's area-normalised triangular filters, float32 ``[201, 80]``, 0 to 8 kHz."""
    frequencies = np.linspace(0.0, _MAX_HZ, _N_FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(0.0), _hz_to_mel(_MAX_HZ), _MEL_BINS + 2))
    slopes = edges[None, :] - frequencies[:, None]
    widths = np.diff(edges)
    rising = -slopes[:, :-2] / widths[:-1]
    falling = slopes[:, 2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))
    return torch.from_numpy(filters.astype(np.float32))


# Slaney's scale: linear to 1 kHz (15 mel), logarithmic above.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_LOG_START_HZ = 1_000.0
_LOG_START_MEL = 15.0
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_START_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _LOG_START_MEL + float(np.log(hz / _LOG_START_HZ)) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    linear = mel * _LINEAR_HZ_PER_MEL
    return np.where(mel < _LOG_START_MEL, linear, _LOG_START_HZ * np.exp(_LOG_STEP * (mel - _LOG_START_MEL)))
