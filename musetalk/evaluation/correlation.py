"""How well two series at frame rate go together, and by how much one is late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH = 15
_MIN_FRAMES = 16
# A lag is judged on no less than this part of the frames that both series have.
_MIN_SHARE = 0.5
# How many standard deviations of chance the best of all lags must reach.
_SIGMAS = 3.0


@dataclass(frozen=True)
class LagCurve:
    """Pearson's r of ``a[t]`` with ``b[t + lag]`` for lags -15 to 15 frames.

    correlation: at lag 0. best, lag: the highest r and where it lies, in frames, between frames by a parabola; positive
        when ``b`` is late. chance: r that unrelated series of this length and smoothness stay below. lags, values: the
        curve, NaN where too few frames overlap.
    """

    correlation: float
    best: float
    lag: float
    chance: float
    lags: np.ndarray
    values: np.ndarray

    @property
    def doubt(self) -> str | None:
        """Why ``lag`` means nothing, or None where it can be believed."""
        if self.best < self.chance:
            return f"the best correlation, {self.best:.2f}, is no more than chance would give ({self.chance:.2f})"
        peak = int(np.nanargmax(self.values))
        if not 0 < peak < len(self.values) - 1 or not np.isfinite(self.values[[peak - 1, peak + 1]]).all():
            return f"the best correlation lies at the end of the lags tried ({self.lags[peak]:+d}); look further"
        return None


def pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    """Correlation of the frames that both series know; None for fewer than 16 or where one does not change."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < _MIN_FRAMES:
        return None
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    # Values of order one: a spread below this is rounding.
    if min(x.std(), y.std()) < 1e-9:
        return None
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1, 1))


def correlate(a: np.ndarray, b: np.ndarray, reach: int = REACH) -> LagCurve | None:
    """The curve of two series ``[N]`` with NaN where not known; None where r at lag 0 cannot be told."""
    correlation = pearson(a, b)
    if correlation is None:
        return None
    least = max(_MIN_FRAMES, _MIN_SHARE * (np.isfinite(a) & np.isfinite(b)).sum())
    lags = np.arange(-reach, reach + 1)
    values = np.full(len(lags), np.nan)
    for place, lag in enumerate(lags.tolist()):
        x, y = _shifted(a, b, lag)
        if (np.isfinite(x) & np.isfinite(y)).sum() >= least:
            r = pearson(x, y)
            values[place] = np.nan if r is None else r
    best, lag = _peak(lags, values)
    return LagCurve(correlation, best, lag, _chance(a, b), lags, values)


def _shifted(a: np.ndarray, b: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of a and b where ``b`` is read ``lag`` frames later."""
    return a[max(0, -lag) : len(a) - max(0, lag)], b[max(0, lag) : len(b) - max(0, -lag)]


def _peak(lags: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Height at the highest whole lag, and the vertex of the parabola through it and its neighbours."""
    top = int(np.nanargmax(values))
    best, lag = float(values[top]), float(lags[top])
    if 0 < top < len(values) - 1:
        before, after = float(values[top - 1]), float(values[top + 1])
        bend = before - 2 * best + after
        if np.isfinite(bend) and bend < 0:
            lag += 0.5 * (before - after) / bend
    return best, lag


def _chance(a: np.ndarray, b: np.ndarray) -> float:
    """Bartlett's standard deviation of r for independent series with these autocorrelations, three times."""
    both = np.isfinite(a) & np.isfinite(b)
    x, y = (np.where(both, series - series[both].mean(), 0.0) for series in (a, b))
    reach = max(1, len(x) // 4)
    # The biased estimate: far lags, known from few frames, count little.
    rho_x, rho_y = (_autocorrelation(series, reach) for series in (x, y))
    spread = 1 + 2 * float((rho_x[1:] * rho_y[1:]).sum())
    return min(1.0, _SIGMAS * float(np.sqrt(max(spread, 1.0) / both.sum())))


def _autocorrelation(x: np.ndarray, reach: int) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    values = np.fft.irfft(spectrum)[: reach + 1]
    return np.asarray(values / values[0])
