"""What a number in a configuration may be."""

from __future__ import annotations

from ..errors import InputError


def at_least(name: str, value: float, low: float) -> None:
    """Raises InputError for a value below ``low``, or none at all (NaN)."""
    if not value >= low:
        raise InputError(f"{name} is {value}; it must be at least {low}")


def between(name: str, value: float, low: float, high: float) -> None:
    """Raises InputError for a value below ``low`` or above ``high``, or none at all (NaN)."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must lie between {low} and {high}")
