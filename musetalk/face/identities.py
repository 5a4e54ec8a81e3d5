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


def group(tracklets: Sequence[Tracklet], count: int, fps: float) -> list[list[Tracklet]]:
    """Sort the tracklets of a clip of ``count`` frames (1 for pictures of their own) into persons.

    Tracklets that share a frame are never the same person; apart from that the two groups most alike are joined
    until none are alike enough (average linkage).

    Who is then left with less than a quarter of a second is given to the person whom they continue, in time and
    place: a face half hidden looks like nobody. Else they are somebody of their own when another face was not in
    the way and the presence score reached 0.9 once, as it does for anybody really shown; what is neither is
    taken for a false detection. In a clip or still shorter than that, every face counts.
    """
    brief = min(count, math.ceil(_BRIEF_SECONDS * fps))
    groups = _joined([t for t in tracklets if t.clear_frames or len(t.frames) >= brief], fps)
    people = [g for g in groups if _length(g) >= brief]
    rest = [g for g in groups if _length(g) < brief] + [
        [t] for t in tracklets if not t.clear_frames and len(t.frames) < brief
    ]
    alone = []
    for some in rest:
        heirs = [person for person in people if _continues(some, person, fps) and not _share_frames(some, person)]
        if heirs:
            max(heirs, key=lambda person: _alike(some, person)).extend(some)
        elif any(t.clear_frames and t.best_score >= _SURE_SCORE for t in some):
            alone.append(some)
    return people + alone


def _joined(tracklets: Sequence[Tracklet], fps: float) -> list[list[Tracklet]]:
    groups = [[t] for t in tracklets]
    alike = _pairwise(tracklets, fps)
    weights = np.array([len(t.looks) for t in tracklets], np.float64)
    while len(groups) > 1:
        a, b = divmod(int(np.argmax(alike)), len(tracklets))
        if alike[a, b] < _SAME:
            break
        mean = (weights[a] * alike[a] + weights[b] * alike[b]) / (weights[a] + weights[b])
        alike[a], alike[:, a] = mean, mean
        alike[b], alike[:, b], alike[a, a] = -np.inf, -np.inf, -np.inf
        weights[a] += weights[b]
        groups[a].extend(groups[b])
        groups[b] = []
    return [g for g in groups if g]


def _pairwise(tracklets: Sequence[Tracklet], fps: float) -> np.ndarray:
    """float64 ``[T, T]``: likeness with the bonus of continuity, -inf for those that cannot be one person."""
    total = len(tracklets)
    alike = np.full((total, total), -np.inf)
    if not total:
        return alike
    views = np.stack([t.looks[np.arange(MAX_EXEMPLARS) % len(t.looks)] for t in tracklets])
    for i in range(total - 1):
        later = views[i + 1 :]
        pairs = likeness(views[i], later.reshape(-1, later.shape[-1])).reshape(MAX_EXEMPLARS, len(later), MAX_EXEMPLARS)
        alike[i, i + 1 :] = _best_mean(pairs.transpose(1, 0, 2).reshape(len(later), -1))
    shots = np.array([t.shot for t in tracklets])
    for i, tracklet in enumerate(tracklets):
        for j in np.flatnonzero(shots == tracklet.shot).tolist():
            if j > i:
                alike[i, j] = _within_shot(tracklet, tracklets[j], alike[i, j], fps)
    return np.maximum(alike, alike.T)


def _within_shot(a: Tracklet, b: Tracklet, alike: float, fps: float) -> float:
    """The likeness of two tracklets of one shot, with what else speaks for or against their being one person."""
    if _share_frames([a], [b]):
        return -math.inf
    if not _continues([a], [b], fps):
        return alike
    # Faces that show nothing to compare, such as boxes on a blank picture, have only their place.
    return alike + _CONTINUES_BONUS if a.looks.any() and b.looks.any() else _SAME


def _alike(some: Sequence[Tracklet], others: Sequence[Tracklet]) -> float:
    looks = (np.concatenate([t.looks for t in side]) for side in (some, others))
    return float(_best_mean(likeness(*looks).reshape(1, -1))[0])


def _best_mean(pairs: np.ndarray) -> np.ndarray:
    """The mean of the most alike quarter of each row."""
    best = max(1, round(pairs.shape[1] * _BEST_VIEWS))
    return np.partition(pairs, -best, axis=1)[:, -best:].mean(axis=1)


def _length(person: Sequence[Tracklet]) -> int:
    return sum(len(t.frames) for t in person)


def _share_frames(some: Sequence[Tracklet], others: Sequence[Tracklet]) -> bool:
    return any(
        a.frames[0] <= b.frames[-1] and b.frames[0] <= a.frames[-1] and not set(a.frames).isdisjoint(b.frames)
        for a in some
        for b in others
    )


def _continues(some: Sequence[Tracklet], others: Sequence[Tracklet], fps: float) -> bool:
    """Whether any of one begins soon after, and near to where, any of the other ended."""
    return any(_follows(a, b, fps) or _follows(b, a, fps) for a in some for b in others)


def _follows(before: Tracklet, after: Tracklet, fps: float) -> bool:
    gap = after.frames[0] - before.frames[-1]
    if before.shot != after.shot or not 0 < gap <= _CONTINUES_SECONDS * fps:
        return False
    there = after.first.centre
    # A face may go on as it moved, or stop behind what hid it.
    away = min(np.linalg.norm(there - before.expected(after.frames[0])), np.linalg.norm(there - before.last.centre))
    grown = abs(math.log2(after.first.side / before.last.side))
    return bool(away <= _CONTINUES_REACH * before.last.side and grown <= MAX_GROWTH)
