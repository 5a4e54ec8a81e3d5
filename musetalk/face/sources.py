"""Where landmarks come from: one interface for networks and for what the caller already knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from .boxes import Box

Select = str | tuple[float, float]
"""``"largest"``, or the point (x, y) in pixels that the face is nearest to."""


@dataclass(frozen=True)
class TrackRequest:
    """What a source has to know about the clip and the wish before it sees a frame.

    total: frames in the clip. count: how many of them are wanted, from the first. size: width, height in
        pixels.
    select: which face, ``"largest"`` or the one nearest to a point (x, y) in pixels; of no meaning to
        ``observe_everyone``.
    min_score, still: as in ``track_faces``.
    parity: look as upstream does, where the source knows how.
    """

    total: int
    count: int
    size: tuple[int, int]
    fps: Fraction
    select: Select
    min_score: float
    still: bool
    parity: bool = False


@dataclass(frozen=True)
class FaceObservation:
    """What a source knows about one frame; neither landmarks nor a box means no usable face.

    landmarks: float32 ``[68, 2]`` iBUG points in pixels; the box rule makes the box from them.
    box: used as it is where there are no landmarks, or where the rule finds no usable box in them.
    mesh: float32 ``[468, 2]`` in pixels, where the source has one.
    score: presence 0..1.
    """

    landmarks: np.ndarray | None = None
    box: Box | None = None
    mesh: np.ndarray | None = None
    score: float = 0.0


class LandmarkSource(Protocol):
    """A landmark network, or anything else that can say where the face is.

    A network that works in batches takes as many frames from the iterator as it wants before it answers;
    a source that needs no pixels takes none, and then none are decoded.
    """

    @property
    def name(self) -> str:
        """For messages, reports and the avatar's content hash."""

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        """The selected face: one observation per frame, ``request.count`` in all, in order.

        frames: uint8 RGB ``[H, W, 3]``, lazily decoded.
        Input that does not fit the clip is refused here, before the first frame is taken.
        """

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        """Every usable face: one list per frame, ``request.count`` in all, in order; nobody is followed.

        A face whose observation has neither landmarks nor a box is not listed.
        """


def alone(observations: Iterator[FaceObservation]) -> Iterator[list[FaceObservation]]:
    """The answer of ``observe_everyone`` for a source that knows one face per frame at most."""
    return ([] if seen.landmarks is None and seen.box is None else [seen] for seen in observations)
