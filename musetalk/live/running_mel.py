"""The log-mel of a segment that is still growing, at the cost of what is new."""

from __future__ import annotations

import numpy as np
import torch

from ..audio.mel import SEGMENT_SAMPLES, log_mel, mel_filters

_N_FFT = 400
_HOP = 160
_SIDE = _N_FFT // 2
_MEL_BINS = 80
_SILENT = -10.0


class RunningMel:
    """What ``log_mel`` gives for longer and longer beginnings of one segment, to within rounding.

    Spectra that later samples cannot change are kept, so a call costs what was added since the one before, not 30 s.
    The range is clamped below the loudest cell heard so far, as ``log_mel`` does for the same beginning. The result
    depends on the lengths asked for before; ask at fixed lengths for equal bits.
    """

    def __init__(self) -> None:
        self._log_power = torch.full((_MEL_BINS, SEGMENT_SAMPLES // _HOP), _SILENT)
        self._window = torch.hann_window(_N_FFT)
        self._final = 0

    def of(self, samples: np.ndarray) -> torch.Tensor:
        """Log-mel, float32 ``[80, 3000]``, of float32 ``[n]``, n from 1 to 480,000: all of the segment heard so far.

        A whole segment is computed by ``log_mel`` itself, bit for bit as offline.
        """
        if len(samples) == SEGMENT_SAMPLES:
            return log_mel(samples)
        # Spectrum m spans samples 160 m - 200 to 160 m + 199; those past ``stop`` see only the padding after the end.
        stop = min(-(-(len(samples) + _SIDE) // _HOP), self._log_power.shape[1])
        if stop > self._final:
            block = torch.from_numpy(_span(samples, self._final * _HOP - _SIDE, (stop - 1) * _HOP + _SIDE))
            spectrum = torch.stft(block, _N_FFT, _HOP, window=self._window, center=False, return_complex=True)
            power = mel_filters().T @ (spectrum.abs() ** 2)
            self._log_power[:, self._final : stop] = power.clamp(min=1e-10).log10()
        self._final = max(self._final, (len(samples) - _SIDE) // _HOP + 1)
        # By NumPy, in this one thread: PyTorch would wake all cores for it, and they compute frames.
        log_power = self._log_power.numpy()
        return torch.from_numpy(
            (np.maximum(log_power, log_power.max() - np.float32(8)) + np.float32(4)) / np.float32(4)
        )


def _span(samples: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples ``start..stop``: zero after the last one heard, mirrored at both ends of the segment."""
    span = np.zeros(stop - start, dtype=np.float32)
    before, after = max(0, -start), max(0, stop - SEGMENT_SAMPLES)
    inside = samples[max(0, start) : stop]
    span[before : before + len(inside)] = inside
    span[:before] = span[before + 1 : 2 * before + 1][::-1]
    if after:
        span[-after:] = span[-2 * after - 1 : -after - 1][::-1]
    return span
