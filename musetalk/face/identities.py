"""Which tracklets of a clip are the same person."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .appearance import likeness
from .tracklets import MAX_EXEMPLARS, MAX_GROWTH, Tracklet

# Groups of tracklets this much alike are one person.
_SAME = 0.75
# The share of the pairs of views that counts: two views of one person may show different sides of the head.
_BEST_VIEWS = 0.25
# Within a shot, a face that appears soon after, and near to where, one was lost is the likelier the same.
_CONTINUES_SECONDS = 1.0
_CONTINUES_REACH = 1.5  # face sizes
_CONTINUES_BONUS = 0.15
# Seen for less than this somebody is brief, and has to be scored this high to be believed.
_BRIEF_SECONDS = 0.25
_SURE_SCORE = 0.9
# Of more tracklets than this, every other view is compared. Tracklets compared with all others at once.
_MANY, _AT_ONCE = 1000, 16
# Of a person, so many tracklets are compared with one that two persons might have.
_MOST_COMPARED = 32


def group(tracklets: Sequence[Tracklet], count: int, fps: float) -> list[list[Tracklet]]:
    """Sort the tracklets of a clip of ``count`` frames (1 for pictures of their own) into persons.

    Tracklets that share a frame are never the same person; apart from that the two groups most alike are joined
    until none are alike enough (average linkage).

    Who is then left with less than a quarter of a second is given to the person whom they continue, in time and
    place: a face half hidden looks like nobody. Else they are somebody of their own when another face was not in
    the way and the presence score reached 0.9 once, as it does for anybody really shown; what is neither is
    taken for a false detection. In a clip or still shorter than that, every face counts.

    For ``T`` tracklets this takes time and memory in proportion to ``T * T``.
    """
    brief = min(count, math.ceil(_BRIEF_SECONDS * fps))
    groups = _joined([t for t in tracklets if t.clear_frames or len(t.frames) >= brief], fps)
    people = [g for g in groups if _length(g) >= brief]
    rest = [g for g in groups if _length(g) < brief] + [
        [t] for t in tracklets if not t.clear_frames and len(t.frames) < brief
    ]
    return people + _left_alone(tracklets, people, rest, fps)


def _left_alone(
    tracklets: Sequence[Tracklet], people: list[list[Tracklet]], rest: list[list[Tracklet]], fps: float
) -> list[list[Tracklet]]:
    """Give each of ``rest`` to one of ``people`` whom they continue; those who are somebody of their own."""
    neighbours = _Neighbours(tracklets, fps)
    owner = {id(t): index for index, person in enumerate(people) for t in person}
    taken = [{frame for t in person for frame in t.frames} for person in people]
    alone = []
    for some in rest:
        beside = {owner[id(other)] for t in some for other in neighbours.of(t) if id(other) in owner}
        heirs = [index for index in sorted(beside) if all(taken[index].isdisjoint(t.frames) for t in some)]
        if heirs:
            heir = heirs[0] if len(heirs) == 1 else max(heirs, key=lambda index: _alike(some, people[index]))
            people[heir].extend(some)
            owner.update((id(t), heir) for t in some)
            taken[heir].update(frame for t in some for frame in t.frames)
        elif any(t.clear_frames and t.best_score >= _SURE_SCORE for t in some):
            alone.append(some)
    return alone


def _joined(tracklets: Sequence[Tracklet], fps: float) -> list[list[Tracklet]]:
    """Average linkage along chains of nearest neighbours (Murtagh, 1983).

    Joining two groups never makes another one more like them than it was like one of them. So two that are each
    other's nearest may be joined at once, whatever else is still to be joined, and a group without anybody alike
    enough is done.
    """
    groups = [[t] for t in tracklets]
    alike = _pairwise(tracklets, fps)
    weights = np.array([len(t.looks) for t in tracklets], np.float32)
    waiting, chain = list(range(len(groups) - 1, -1, -1)), list[int]()
    done = np.zeros(len(groups), bool)
    while chain or waiting:
        if not chain:
            chain.append(waiting.pop())
        a = chain[-1]
        if done[a]:
            chain.pop()
            continue
        b = int(alike[a].argmax())
        if alike[a, b] < _SAME:
            done[chain.pop()] = True
        elif len(chain) < 2 or alike[a, b] > alike[a, chain[-2]]:
            chain.append(b)
        else:
            b = chain[-2]
            del chain[-2:]
            mean = (weights[a] * alike[a] + weights[b] * alike[b]) / (weights[a] + weights[b])
            alike[a], alike[:, a] = mean, mean
            alike[b], alike[:, b], alike[a, a], done[b] = -np.inf, -np.inf, -np.inf, True
            weights[a] += weights[b]
            groups[a].extend(groups[b])
            groups[b] = []
            waiting.append(a)
    return [g for g in groups if g]


def _pairwise(tracklets: Sequence[Tracklet], fps: float) -> np.ndarray:
    """float32 ``[T, T]``: likeness with the bonus of continuity, -inf for those that cannot be one person."""
    total = len(tracklets)
    alike = np.full((total, total), -np.inf, np.float32)
    if not total:
        return alike
    each = MAX_EXEMPLARS if total <= _MANY else MAX_EXEMPLARS // 2
    views = [t.looks for t in tracklets]
    flat = np.concatenate([some[np.arange(each) * max(len(some), each) // each % len(some)] for some in views])
    for start in range(0, total, _AT_ONCE):
        stop = min(start + _AT_ONCE, total)
        pairs = likeness(flat[start * each : stop * each], flat[start * each :])
        pairs = pairs.reshape(stop - start, each, total - start, each).transpose(0, 2, 1, 3)
        alike[start:stop, start:] = _best_mean(pairs.reshape(-1, each**2)).reshape(stop - start, -1)
    np.fill_diagonal(alike, -np.inf)
    # The same both ways to the last bit: a chain of ever nearer neighbours must end.
    alike = np.maximum(alike, alike.T)
    neighbours = _Neighbours(tracklets, fps)
    for i, tracklet in enumerate(tracklets):
        for j in neighbours.places(tracklet):
            # Faces that show nothing to compare, such as boxes on a blank picture, have only their place.
            known = tracklet.looks.any() and tracklets[j].looks.any()
            if j > i:
                alike[i, j] = alike[j, i] = alike[i, j] + _CONTINUES_BONUS if known else _SAME
        frames = set(tracklet.frames)
        for j in neighbours.places_at_once(tracklet):
            if j >= i and not frames.isdisjoint(tracklets[j].frames):
                alike[i, j] = alike[j, i] = -np.inf
    return alike


class _Neighbours:
    """Looks up which of many tracklets lie beside one in time, and near to it in place."""

    def __init__(self, tracklets: Sequence[Tracklet], fps: float) -> None:
        self._tracklets = tracklets
        self._most = _CONTINUES_SECONDS * fps
        self._shots = np.array([t.shot for t in tracklets])
        self._firsts = np.array([t.frames[0] for t in tracklets])
        self._lasts = np.array([t.frames[-1] for t in tracklets])

    def of(self, tracklet: Tracklet) -> list[Tracklet]:
        """Those that begin soon after, and near to where, this one ended, or the other way round."""
        return [self._tracklets[place] for place in self.places(tracklet)]

    def places(self, tracklet: Tracklet) -> list[int]:
        """As ``of``, by number."""
        before, after = tracklet.frames[0] - self._lasts, self._firsts - tracklet.frames[-1]
        soon = ((before > 0) & (before <= self._most)) | ((after > 0) & (after <= self._most))
        found = np.flatnonzero(soon & (self._shots == tracklet.shot)).tolist()
        return [place for place in found if _adjoin(tracklet, self._tracklets[place])]

    def places_at_once(self, tracklet: Tracklet) -> list[int]:
        """Those whose time overlaps that of this one, itself included."""
        return np.flatnonzero((self._firsts <= tracklet.frames[-1]) & (tracklet.frames[0] <= self._lasts)).tolist()


def _alike(some: Sequence[Tracklet], person: Sequence[Tracklet]) -> float:
    # A few tracklets, spread over the clip, show a person well enough.
    person = person[:: -(-len(person) // _MOST_COMPARED)]
    looks = (np.concatenate([t.looks for t in side]) for side in (some, person))
    return float(_best_mean(likeness(*looks).reshape(1, -1))[0])


def _best_mean(pairs: np.ndarray) -> np.ndarray:
    """The mean of the most alike quarter of each row."""
    best = max(1, round(pairs.shape[1] * _BEST_VIEWS))
    return np.partition(pairs, -best, axis=1)[:, -best:].mean(axis=1)


def _length(person: Sequence[Tracklet]) -> int:
    return sum(len(t.frames) for t in person)


def _adjoin(a: Tracklet, b: Tracklet) -> bool:
    """Whether the later one begins near to where the earlier one ended, and about as large."""
    before, after = (a, b) if a.frames[-1] < b.frames[0] else (b, a)
    there, side = after.first.centre, before.last.side
    # A face may go on as it moved, or stop behind what hid it.
    away = min(np.linalg.norm(there - before.expected(after.frames[0])), np.linalg.norm(there - before.last.centre))
    return bool(away <= _CONTINUES_REACH * side and abs(math.log2(after.first.side / side)) <= MAX_GROWTH)
