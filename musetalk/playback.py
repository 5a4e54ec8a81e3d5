"""Which source frame an output frame shows (spec section 5)."""

from __future__ import annotations

from .errors import InputError

LOOP_MODES = ("ping-pong", "repeat", "hold", "cut")


def check_loop(loop: str) -> None:
    if loop not in LOOP_MODES:
        raise InputError(f"loop is {loop!r}; use one of {', '.join(LOOP_MODES)}")


def source_index(index: int, count: int, loop: str = "ping-pong") -> int:
    """Source frame of output frame ``index`` for footage of ``count`` frames.

    ``ping-pong`` plays forward, then backward, with both ends doubled, as upstream does; ``repeat`` starts over;
    ``hold`` and ``cut`` stay on the last frame (a cut clip is never asked past it: see :func:`output_length`).
    """
    if loop == "ping-pong":
        position = index % (2 * count)
        return position if position < count else 2 * count - 1 - position
    if loop == "repeat":
        return index % count
    return min(index, count - 1)


def source_indices(start: int, stop: int, count: int, loop: str = "ping-pong") -> list[int]:
    """Source frames of the output frames ``start..stop``."""
    return [source_index(index, count, loop) for index in range(start, stop)]


def output_length(windows: int, count: int, loop: str = "ping-pong", is_still: bool = False) -> int:
    """Output frames for a sound of ``windows`` frames; ``cut`` ends with the footage, unless that is a still."""
    return min(windows, count) if loop == "cut" and not is_still else windows
