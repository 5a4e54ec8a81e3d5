"""Frame rates as exact fractions."""

from __future__ import annotations

from fractions import Fraction
from numbers import Rational

from ..errors import InputError

MAX_RATE = 1000
_MAX_TERM = 2**31 - 1  # FFmpeg keeps rates as pairs of C ints
_NTSC = tuple(Fraction(n * 1000, 1001) for n in (12, 15, 24, 30, 48, 60, 120, 240))
_WHOLE = (1, 2, 5, 6, 8, 10, 12, 15, 18, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 200, 240)
STANDARD_RATES = tuple(sorted({*_NTSC, *map(Fraction, _WHOLE), Fraction(25, 2)}))

# Half the distance between 24000/1001 and 24: closer than this names one rate and no other.
_SNAP = Fraction(1, 2000)


def nearest_standard_rate(rate: Fraction) -> Fraction:
    """The standard rate closest to `rate`, by ratio."""
    return min(STANDARD_RATES, key=lambda standard: max(standard / rate, rate / standard))


def snap(rate: Fraction) -> Fraction:
    """`rate` as the standard rate it is a rounded spelling of (2997/100 is 30000/1001), else unchanged."""
    standard = nearest_standard_rate(rate)
    return standard if abs(standard - rate) < rate * _SNAP else rate


def as_rate(fps: Rational | float | str) -> Fraction:
    """A frame rate as a Fraction. Fractions and ints stay as they are; 29.97 or "29.97" is 30000/1001.

    Raises InputError for what is not a number in (0, 1000].
    """
    try:
        rate = Fraction(fps)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise InputError(f"fps={fps!r} is not a frame rate; give a number such as 25 or 30000/1001") from None
    if not 0 < rate <= MAX_RATE:
        raise InputError(f"fps={fps} is out of range; give a frame rate above 0 and up to {MAX_RATE}")
    if isinstance(fps, Rational) and max(rate.numerator, rate.denominator) <= _MAX_TERM:
        return rate
    snapped = snap(rate)
    return snapped if snapped in STANDARD_RATES else rate.limit_denominator(1001)
