"""Runs of frames within one shot in which one face is followed without doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from .appearance import likeness, portrait
from .blazeface import iou
from .follow import extent
from .sources import FaceObservation

# A face may be this far from where it was expected, in face sizes, plus so much for every further frame it was not
# seen; grown or shrunk by this power of two; and no less like what it looked like.
_REACH, _REACH_PER_MISS = 0.6, 0.1
MAX_GROWTH = 0.5
_LEAST_LIKENESS = 0.6
# Weight of appearance in the cost of a link, in which one face size of distance costs 1.
_LOOK_WEIGHT = 2.0
# When another link would cost hardly more, nobody can say which is right.
_MARGIN = 0.25
_PATIENCE_SECONDS = 0.2
_VELOCITY_MEMORY = 0.6
_LOOK_MEMORY = 0.9
# A face that shares this much of the smaller one's area with another one is partly hidden, or hides.
_CLEAR_OVERLAP = 0.15
# Two observations of a frame that cover one another this far are one face seen twice.
_SAME_FACE_IOU = 0.6
MAX_EXEMPLARS = 8


@dataclass
class Seen:
    """A face of one frame with what is needed to link it.

    look: appearance float32 ``[D]``. quality: how well this view shows it. clear: no other face of the frame
    overlaps it. box, centre, side: where it is, in pixels; side is the geometric mean of width and height, at least 1.
    """

    face: FaceObservation
    look: np.ndarray
    quality: float
    clear: bool = True
    box: np.ndarray = field(init=False)
    centre: np.ndarray = field(init=False)
    side: float = field(init=False)

    def __post_init__(self) -> None:
        self.box = extent(self.face)
        self.centre = (self.box[:2] + self.box[2:]) / 2
        self.side = max(math.sqrt(max(float((self.box[2:] - self.box[:2]).prod()), 0.0)), 1.0)


class Tracklet:
    """One face in ascending frames of one shot.

    frames, faces: where it was seen, and what was seen there.
    shot: number of the shot. first, last: the ends as seen. velocity: pixels per frame at the end.
    clear_frames: how many of the frames show it clear of other faces. looks: ``[K, D]`` its appearance in up to eight
    of them, spread over the tracklet (in the first frame, if none is clear).
    portrait, quality: the best view.
    """

    def __init__(self, shot: int, frame: int, rgb: np.ndarray, seen: Seen) -> None:
        self.shot = shot
        self.frames: list[int] = []
        self.faces: list[FaceObservation] = []
        self.first = self.last = seen
        self.velocity = np.zeros(2)
        self.clear_frames = 0
        self.quality = 0.0
        self.portrait: np.ndarray
        self._fallback = self._mean_look = seen.look
        self._exemplars: list[np.ndarray] = []
        self._stride = 1
        self.add(frame, rgb, seen)

    @property
    def looks(self) -> np.ndarray:
        return np.stack(self._exemplars or [self._fallback])

    @property
    def best_score(self) -> float:
        return max(face.score for face in self.faces)

    def expected(self, frame: int) -> np.ndarray:
        """Centre (x, y) in ``frame`` at constant velocity."""
        return self.last.centre + self.velocity * (frame - self.frames[-1])

    def likeness(self, look: np.ndarray) -> float:
        """How like the last view and the memory of the clear ones; 1 where either side shows nothing to compare."""
        if not (look.any() and self._mean_look.any()):
            return 1.0
        return float(likeness(look, self.last.look) + likeness(look, self._mean_look)) / 2

    def add(self, frame: int, rgb: np.ndarray, seen: Seen) -> None:
        """Take the next view, a face of the picture ``rgb`` uint8 ``[H, W, 3]``, which is not kept."""
        if self.frames:
            moved = (seen.centre - self.last.centre) / (frame - self.frames[-1])
            # The first step says more about the velocity than the zero it starts from.
            memory = _VELOCITY_MEMORY if len(self.frames) > 1 else 0.0
            self.velocity = memory * self.velocity + (1 - memory) * moved
        self.frames.append(frame)
        self.faces.append(seen.face)
        self.last = seen
        # A view that another face intrudes on is used only while there is no better one.
        quality = seen.quality if seen.clear else 0.1 * seen.quality
        if len(self.frames) == 1 or quality > self.quality:
            self.portrait, self.quality = portrait(rgb, seen.face), quality
        if seen.clear:
            self._remember(seen.look)

    def _remember(self, look: np.ndarray) -> None:
        mean = look if not self.clear_frames else _LOOK_MEMORY * self._mean_look + (1 - _LOOK_MEMORY) * look
        self._mean_look = mean / max(float(np.linalg.norm(mean)), 1e-6)
        if self.clear_frames % self._stride == 0:
            self._exemplars.append(look)
            if len(self._exemplars) > MAX_EXEMPLARS:
                self._exemplars, self._stride = self._exemplars[::2], self._stride * 2
        self.clear_frames += 1


class Linker:
    """Links the faces of consecutive frames to tracklets, and rather ends one than guesses."""

    def __init__(self, fps: float) -> None:
        self.tracklets: list[Tracklet] = []
        self._live: list[Tracklet] = []
        self._patience = max(1, round(_PATIENCE_SECONDS * fps))
        self._shot = -1

    def step(self, frame: int, rgb: np.ndarray, seen: Sequence[Seen], cut: bool) -> None:
        """Take the faces of the next frame, whose picture is ``rgb``; ``cut``: it is the first of a shot."""
        if cut:
            self._live, self._shot = [], self._shot + 1
        seen = _without_doubles(seen)
        _mark_clear(seen)
        self._live = [t for t in self._live if frame - t.frames[-1] <= self._patience]
        costs = np.array([[_cost(t, s, frame) for s in seen] for t in self._live]).reshape(len(self._live), len(seen))
        taken = set()
        doubtful: set[int] = set()
        for row, column in _assign(costs):
            if _ambiguous(costs, row, column):
                doubtful.add(row)
            else:
                self._live[row].add(frame, rgb, seen[column])
                taken.add(column)
        self._live = [t for row, t in enumerate(self._live) if row not in doubtful]
        for column in range(len(seen)):
            if column not in taken:
                self._live.append(Tracklet(self._shot, frame, rgb, seen[column]))
                self.tracklets.append(self._live[-1])


def _cost(tracklet: Tracklet, seen: Seen, frame: int) -> float:
    """Of a link; infinite where it is out of the question."""
    side = tracklet.last.side
    missed = frame - tracklet.frames[-1] - 1
    away = math.dist(seen.centre, tracklet.expected(frame)) / side
    grown = abs(math.log2(seen.side / side))
    if away > _REACH + _REACH_PER_MISS * missed or grown > MAX_GROWTH:
        return math.inf
    like = tracklet.likeness(seen.look)
    return away + grown + _LOOK_WEIGHT * (1 - like) if like >= _LEAST_LIKENESS else math.inf


def _assign(costs: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of the cheapest assignment, impossible ones left out."""
    rows, columns = linear_sum_assignment(np.where(np.isfinite(costs), costs, 1e6))
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if np.isfinite(costs[r, c])]


def _ambiguous(costs: np.ndarray, row: int, column: int) -> bool:
    """Whether the same tracklet, or the same face, could as well be linked otherwise."""
    others = np.concatenate([np.delete(costs[row], column), np.delete(costs[:, column], row)])
    return bool((others < costs[row, column] + _MARGIN).any())


def _without_doubles(seen: Sequence[Seen]) -> list[Seen]:
    """One observation per face, in the given order: of several that cover each other the one with the best score."""
    kept: list[Seen] = []
    for candidate in sorted(seen, key=lambda s: -s.face.score):
        if not kept or iou(candidate.box, np.stack([s.box for s in kept])).max() < _SAME_FACE_IOU:
            kept.append(candidate)
    return [s for s in seen if any(s is k for k in kept)]


def _mark_clear(seen: Sequence[Seen]) -> None:
    """Note for each face whether another one overlaps it."""
    if not seen:
        return
    boxes = np.stack([s.box for s in seen])
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shared = (high - low).clip(0).prod(axis=2) / np.maximum(np.minimum(areas[:, None], areas), 1.0)
    np.fill_diagonal(shared, 0)
    for face, most in zip(seen, shared.max(axis=1), strict=True):
        face.clear = bool(most < _CLEAR_OVERLAP)
