"""From presentation times to a constant frame rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .rates import MAX_RATE, nearest_standard_rate, snap

DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Timeline:
    """A constant-rate clip: output frame k shows source frame `shown[k]`."""

    fps: Fraction
    shown: Sequence[int]
    variable: bool
    """Whether the source has no constant rate of its own."""


def make_timeline(
    ticks: np.ndarray,
    time_base: Fraction,
    last_ticks: int,
    declared: Iterable[Fraction | None] = (),
    fps: Fraction | None = None,
) -> Timeline:
    """Judge presentation times and lay them out at a constant rate.

    ticks: int64 [n], ascending, in units of `time_base` seconds. last_ticks: how long the last frame stays.
    declared: the rates the container claims, most trusted first. fps: the rate asked for.

    A constant-rate source keeps every frame once, at its exact rate. A variable one, or another `fps`, is
    retimed: output k shows what is on screen k/fps after the first frame, and the length is the duration
    rounded to whole frames. A variable source without `fps` takes the standard rate nearest to its average.
    """
    ticks = ticks - ticks[0]
    n = len(ticks)
    rate = constant_rate(ticks, time_base, declared, fps)
    if rate is not None:
        if fps is None or fps == rate:
            return Timeline(rate, range(n), variable=False)
        length, per_output = max(1, round(n / rate * fps)), rate / fps
        shown = [min(n - 1, k * per_output.numerator // per_output.denominator) for k in range(length)]
        return Timeline(fps, shown, variable=False)
    duration = (int(ticks[-1]) + last_ticks) * time_base
    fps = fps or nearest_standard_rate(n / duration)
    step = 1 / (fps * time_base)
    # A stored time is rounded to a tick, so a frame due exactly at k/fps may be stored half a tick late.
    half, whole = step.denominator, 2 * step.denominator
    due = [(2 * k * step.numerator + half) // whole for k in range(max(1, round(duration * fps)))]
    return Timeline(fps, (np.searchsorted(ticks, due, side="right") - 1).tolist(), variable=True)


def constant_rate(
    ticks: np.ndarray,
    time_base: Fraction,
    declared: Iterable[Fraction | None] = (),
    fps: Fraction | None = None,
) -> Fraction | None:
    """The rate at which frame i is due at i/rate, or None. ticks: int64 [n] ascending from 0.

    First within the container's rounding (a tick either way), where `fps` is believed if it fits; then within
    a quarter of a frame: capture jitter that never adds up is not a reason to drop or repeat frames.
    """
    n = len(ticks)
    known = [rate for rate in declared if rate and 0 < rate <= MAX_RATE]
    if n == 1:
        return fps or (snap(known[0]) if known else DEFAULT_RATE)
    average = (n - 1) / (int(ticks[-1]) * time_base)
    index = np.arange(n)
    candidates = dict.fromkeys(form for rate in [*known, average] for form in (snap(rate), rate))

    def fits(rate: Fraction, rounding: bool) -> bool:
        period = float(1 / (rate * time_base))
        late = ticks - index * period
        return bool(late.max() - late.min() <= (min(2.001, period / 4) if rounding else period / 2))

    if fps and fits(fps, rounding=True):
        return fps
    for rounding in (True, False):
        for rate in candidates:
            if fits(rate, rounding):
                return rate.limit_denominator(100_000)
    return None
