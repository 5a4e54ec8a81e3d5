"""Which frames are redrawn, and how strongly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..profile import Profile
from .track import PassThrough

# Sources leave out what is below their own least score; this is for those that have none.
_MIN_SCORE = 0.15
# A change of mind must last this long.
_SETTLE_SECONDS = 0.12
# How soft a limit is: confidence falls from 1 to 0 from this part of it below to as much above.
_SOFTNESS = 0.2
# A level crop of a head rolled further than this has the mouth beside its lower half.
_MAX_ROLL = 80.0
_GOOD, _SCORE, _YAW, _PITCH, _ROLL, _COVERED, _NO_FACE = range(7)


@dataclass(frozen=True)
class Verdict:
    """``confidence``, ``valid``, ``weights`` and ``passed`` of a FaceTrack."""

    confidence: np.ndarray
    valid: np.ndarray
    weights: np.ndarray
    passed: tuple[PassThrough, ...]


@dataclass(frozen=True)
class _Evidence:
    """What the frames are judged by, float32 ``[M]`` each; NaN where not known, which nobody is blamed for."""

    score: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    covered: np.ndarray


def judge(
    seen: np.ndarray,
    scores: np.ndarray,
    pose: np.ndarray | None,
    covered: np.ndarray | None,
    profile: Profile,
    fps: Fraction | None,
) -> Verdict:
    """Decide for every frame whether its face can be redrawn.

    seen: bool ``[M]``, a usable box; a frame without one always passes through.
    scores: presence 0..1 ``[M]``.
    pose: yaw, pitch, roll in degrees ``[M, 3]``. covered: part of the mouth region, 0..1, ``[M]``. Either may be None,
        or NaN in frames where it is not known.
    fps: None when frames are pictures of their own: no frame then depends on another.

    Presence, yaw, pitch, cover and, for a level crop, roll each give a term of 1 well inside their limit, 0.5 on it,
    and 0 well outside. The confidence is the least of them: a face is as good as the worst thing about it. Below 0.5 a
    frame passes through, but a change that lasts less than 0.12 s is not made: a value that hovers at its limit does
    not flicker.
    ``weights`` rise in a raised cosine over ``profile.fade`` seconds beside frames that pass through.

    Under ``profile.parity`` every face that is seen is redrawn, at full weight.
    """
    nothing = np.full(len(seen), np.nan, np.float32)
    evidence = _Evidence(
        score=scores.astype(np.float32),
        yaw=nothing if pose is None else np.abs(pose[:, 0].astype(np.float32)),
        pitch=nothing if pose is None else pose[:, 1].astype(np.float32),
        roll=nothing if pose is None or profile.upright else np.abs(pose[:, 2].astype(np.float32)),
        covered=nothing if covered is None else covered.astype(np.float32),
    )
    if profile.parity:
        faults, confidence = np.where(seen, _GOOD, _NO_FACE), np.where(seen, scores, 0)
        settle, fade = 1, 0
    else:
        terms = _terms(evidence, profile)
        confidence = np.where(seen, terms.min(axis=0), 0)
        settle, fade = (1, 0) if fps is None else (max(1, round(_SETTLE_SECONDS * fps)), round(profile.fade * fps))
        faults = _faults(seen, terms, settle)
    valid = faults == _GOOD
    return Verdict(
        confidence=confidence.astype(np.float32),
        valid=valid,
        weights=_weights(valid, fade),
        passed=tuple(_passed(faults, evidence)),
    )


def _terms(evidence: _Evidence, profile: Profile) -> np.ndarray:
    """How good each frame is in each respect, ``[5, M]`` in 0..1, in the order of the faults."""
    return np.stack(
        [
            1 - _within(evidence.score, _MIN_SCORE, 1.0),
            _within(evidence.yaw, profile.max_yaw, _SOFTNESS),
            _within(np.abs(evidence.pitch), profile.max_pitch, _SOFTNESS),
            _within(evidence.roll, _MAX_ROLL, _SOFTNESS),
            _within(evidence.covered, profile.max_covered, _SOFTNESS),
        ]
    )


def _within(values: np.ndarray, limit: float, softness: float) -> np.ndarray:
    """1 well below the limit, 0.5 on it, 0 well above; 1 where nothing is known."""
    share = np.clip(0.5 + (limit - values) / (2 * max(softness * limit, 1e-9)), 0, 1)
    return np.nan_to_num(share * share * (3 - 2 * share), nan=1.0)


def _faults(seen: np.ndarray, terms: np.ndarray, settle: int) -> np.ndarray:
    """What is wrong with each frame, ``[M]``, without changes that last fewer than ``settle`` frames."""
    worst = np.where(terms.min(axis=0) < 0.5, 1 + terms.argmin(axis=0), _GOOD)
    faults = np.where(seen, worst, _NO_FACE)
    for first, stop in _runs(seen):
        if not seen[first]:
            continue
        bad = _settled((worst[first:stop] != _GOOD).astype(np.intp), settle)
        faults[first:stop] = _GOOD
        for a, b in _runs(bad):
            if bad[a]:
                # A good frame among bad ones goes with what was wrong before it, or else after it.
                part = worst[first + a : first + b]
                at_fault = np.flatnonzero(part)
                nearest = np.searchsorted(at_fault, np.arange(len(part)), side="right") - 1
                faults[first + a : first + b] = _settled(part[at_fault[np.maximum(nearest, 0)]], settle)
    return faults


def _settled(labels: np.ndarray, least: int) -> np.ndarray:
    """Labels ``[n]`` whose runs shorter than ``least`` take the label before them, the first ones that after them.

    Where every run is so short, all take the most frequent label.
    """
    long = [(first, stop) for first, stop in _runs(labels) if stop - first >= least]
    if not long:
        return np.full_like(labels, np.bincount(labels).argmax())
    settled = np.full_like(labels, labels[long[0][0]])
    for first, _ in long:
        settled[first:] = labels[first]
    return settled


def _runs(labels: np.ndarray) -> list[tuple[int, int]]:
    """Runs of equal labels as (first, stop)."""
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    limits = [0, *edges.tolist(), len(labels)]
    return list(pairwise(limits)) if len(labels) else []


def _weights(valid: np.ndarray, fade: int) -> np.ndarray:
    """Float32 ``[M]``: 0 where not valid, rising over ``fade`` frames beside those.

    A usable run shorter than two fades rises until its middle and falls again: it does not pop up for a moment.
    """
    frames = np.arange(len(valid), dtype=np.float64)
    before = np.maximum.accumulate(np.where(valid, -np.inf, frames))
    after = np.minimum.accumulate(np.where(valid, np.inf, frames)[::-1])[::-1]
    distance = np.minimum(frames - before, after - frames)
    return (np.sin(np.pi / 2 * np.clip(distance / (fade + 1), 0, 1)) ** 2).astype(np.float32)


def _passed(faults: np.ndarray, evidence: _Evidence) -> Iterator[PassThrough]:
    for first, stop in _runs(faults):
        if faults[first] != _GOOD:
            yield PassThrough(first, stop - 1, _reason(int(faults[first]), slice(first, stop), evidence))


def _reason(fault: int, run: slice, evidence: _Evidence) -> str:
    """In words, with the worst value of the run."""
    if fault == _SCORE:
        return f"face hardly visible (score {np.nanmin(evidence.score[run]):.2f})"
    if fault == _YAW:
        return f"head turned away (yaw {np.nanmax(evidence.yaw[run]):.0f} degrees)"
    if fault == _PITCH:
        pitch = evidence.pitch[run][np.nanargmax(np.abs(evidence.pitch[run]))]
        return f"head tilted {'up' if pitch > 0 else 'down'} (pitch {pitch:.0f} degrees)"
    if fault == _ROLL:
        return f"head rolled ({np.nanmax(evidence.roll[run]):.0f} degrees; upright turns the crop with it)"
    if fault == _COVERED:
        return f"mouth covered ({np.nanmax(evidence.covered[run]):.0%})"
    return "no face"
