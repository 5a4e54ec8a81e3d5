"""Which steps of a segment the audio encoder sees while the sound is still arriving."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..audio.mel import SEGMENT_STEPS

NEAR_STEPS = 100
_PAST_STRIDE = 8
# What is near begins at a multiple of this, and the steps of the past are one in number.
_GRID = 16
_SILENT_STEPS = 80
# Two convolutions and half a spectrum reach this far past a step: from here on there is nothing but silence.
_AFTER_SOUND = 4
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, eq=False)
class ThinnedSteps:
    """A part of a segment's 1500 steps that stands for all of them.

    steps: int64 ``[n]``, ascending. weights: float32 ``[n]``, how many steps each stands for. wanted: range of the
    steps whose states are asked for; they are among ``steps``, next to each other.
    """

    steps: torch.Tensor
    weights: torch.Tensor
    wanted: range

    @property
    def rows(self) -> slice:
        """Where in ``steps`` the wanted ones are."""
        first = int(torch.searchsorted(self.steps, self.wanted.start))
        return slice(first, first + len(self.wanted))


def thinned_steps(heard_steps: int, first: int) -> ThinnedSteps:
    """For a segment of which so many steps were heard, rounded up, and whose states are wanted from ``first`` on.

    The last 2 s stand for themselves. Before them one step of eight or a little less is kept, and eighty of the silence
    behind, which a sentence's beginning hears most of: left out, every step would listen to the others more than it
    was trained to. There are few different numbers of steps, since each takes a CPU's libraries time and memory to
    prepare for.
    """
    heard = min(heard_steps + _AFTER_SOUND, SEGMENT_STEPS)
    start = max(0, min(heard - NEAR_STEPS, first)) // _GRID * _GRID
    stop = min(max(heard, start + NEAR_STEPS + _GRID), SEGMENT_STEPS)
    near = torch.arange(start, stop)
    past, past_weights = _spread(0, start, min(start, -(-start // (_PAST_STRIDE * _GRID)) * _GRID))
    silent, silent_weights = _spread(stop, SEGMENT_STEPS, min(_SILENT_STEPS, SEGMENT_STEPS - stop))
    return ThinnedSteps(
        torch.cat([past, near, silent]),
        torch.cat([past_weights, torch.ones(len(near)), silent_weights]),
        range(first, heard_steps),
    )


def _spread(start: int, stop: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` steps, one from each of as many equal parts, and their weights.

    Where in its part a step lies changes by the golden ratio: at equal distances positions of one phase would be taken.
    In parts too narrow for that neighbours would meet; there it is the first.
    """
    part = torch.arange(count, dtype=torch.float64)
    width = (stop - start) / max(1, count)
    place = part * _GOLDEN % 1 if width >= 1 + _GOLDEN else torch.zeros(())
    steps = start + ((part + place) * width).long()
    return steps, torch.full((count,), width)
