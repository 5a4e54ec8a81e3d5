"""Which stretches of a video become clips: one face in every frame, no cut inside, neither too short nor too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .clip_file import FPS

SHORT = "shorter than 2 s between cuts"
LEAST_FRAMES = int(2 * FPS)
# Around the boxes of a clip: pixels, and parts of the largest box's longer side, whichever is more.
_LEAST_ROOM = 64
_ROOM = 0.25


@dataclass(frozen=True)
class Span:
    """Frames ``first`` to ``stop - 1``."""

    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first


def choose_spans(
    faults: Sequence[str], shots: Sequence[int], widths: np.ndarray, *, longest: int, min_face: int
) -> tuple[list[Span], Counter[str]]:
    """Spans to keep, in order, and the number of frames left out by reason.

    faults: what is wrong with each of the ``M`` frames, empty where nothing. shots: each shot's first frame. widths: of
    the face box ``[M]`` in pixels. longest: frames of a clip; a longer run is cut into equal parts.
    A span whose first frame's face is narrower than ``min_face`` is left out, as upstream does.
    """
    dropped: Counter[str] = Counter(fault for fault in faults if fault)
    kept: list[Span] = []
    for run in _runs(faults, shots):
        if len(run) < LEAST_FRAMES:
            dropped[SHORT] += len(run)
            continue
        for part in _parts(run, longest):
            if widths[part.first] < min_face:
                dropped[f"face under {min_face} px wide"] += len(part)
            else:
                kept.append(part)
    return kept, dropped


def _runs(faults: Sequence[str], shots: Sequence[int]) -> Iterator[Span]:
    """Runs of frames without fault, ended by cuts too."""
    cuts = set(shots)
    first: int | None = None
    for frame, fault in enumerate(faults):
        if first is not None and (fault or frame in cuts):
            yield Span(first, frame)
            first = None
        if first is None and not fault:
            first = frame
    if first is not None:
        yield Span(first, len(faults))


def _parts(run: Span, longest: int) -> Iterator[Span]:
    count = -(-len(run) // longest)
    edges = [run.first + len(run) * i // count for i in range(count + 1)]
    return (Span(first, stop) for first, stop in pairwise(edges))


def surroundings(boxes: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the picture that a clip shows: all its boxes ``[n, 4]`` and room around them, on even pixels.

    Training cuts out nothing farther away, and a clip of the whole picture would take several times as long to decode.
    Returns x0 y0 x1 y1 with even sides, within a picture of ``size`` (width, height).
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    room = max(_LEAST_ROOM, int(_ROOM * (boxes[:, 2:] - boxes[:, :2]).max()))
    x0, y0 = (max(0, int(edge) - room) // 2 * 2 for edge in low)
    x1, y1 = (min(limit, int(edge) + room) for edge, limit in zip(high, size, strict=True))
    return x0, y0, x1 - (x1 - x0) % 2, y1 - (y1 - y0) % 2
