"""Landmarks over time: steadied without lag, and how much they shake.

The filter is a local polynomial fit as Savitzky and Golay's, with a Hann-tapered window instead of a hard one
(Schmid, Rath and Diebold, "Why and how Savitzky-Golay filters should be replaced", ACS Meas. Sci. Au 2022): it damps
what is above its band by far more for the same motion kept, and its length is not bound to whole frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

# Half window lengths at strength 1. At 25 fps the motion of the whole head is kept to 99% at 2 Hz (nods), the
# changes of the face's shape to 93% at 4 Hz and 81% at 5 Hz (syllables).
_RIGID_SECONDS = 0.28
_SHAPE_SECONDS = 0.20
_DEGREE = 4
# At low rates the window keeps so many frames: with fewer, a polynomial of this degree would follow the noise.
_MIN_HALF_FRAMES = 5.0
# A step from frame to frame, in face sizes, that may be a cut: beside stillness on one side, and on both. It is one
# where it is also this many times what happens in the frames beside it.
_LEAP, _JUMP_CUT = 0.25, 0.1
_SUDDEN = 4.0
# Frames filtered at once.
_CHUNK = 64
# Frames that show how a face moves, and rounds of weighing its points by it.
_SAMPLE, _FITS = 512, 5


def smooth(
    points: np.ndarray, seen: np.ndarray, strength: float, fps: Fraction, cuts: Sequence[int] = ()
) -> np.ndarray:
    """Zero-phase smoothing of points ``[M, P, 2]`` over time, in runs of ``seen`` frames (bool ``[M]``) between cuts.

    Motion of the whole face (shift, turn in the picture, zoom) is smoothed over a longer window than what remains, the
    changes of its shape. Polynomials up to the fourth degree pass unchanged. So they do at the ends of a run, where the
    fit is one-sided and the smoothing tapers off; a run of up to five frames stays as it is.

    strength: 0 returns ``points`` itself, 1 the default windows; below 1 the result is mixed with ``points`` in
        proportion, above 1 the windows grow in proportion.
    cuts: frames known to begin a shot. A leap of the points that no head makes counts as a cut besides.

    Returns an array like ``points``; rows that are not ``seen`` are copied.
    """
    if strength <= 0:
        return points
    smoothed = points.copy()
    share, rate = min(strength, 1.0), max(strength, 1.0) * float(fps)
    rigid, shape = (max(seconds * rate, _MIN_HALF_FRAMES) for seconds in (_RIGID_SECONDS, _SHAPE_SECONDS))
    for first, stop in steady_runs(points, seen, cuts):
        if stop - first <= _DEGREE + 1:  # the polynomial would go through every point
            continue
        run, target = (array[first:stop].reshape(stop - first, -1) for array in (points, smoothed))
        fit, basis = _rigid_motion(points[first:stop])
        motion = np.concatenate([run[i : i + _CHUNK].astype(np.float64) @ fit for i in range(0, len(run), _CHUNK)])
        longer = _filtered(motion, rigid) - _filtered(motion, shape)
        for rows, block in _filter(run, shape):
            target[rows] = share * (block + longer[rows] @ basis) + (1 - share) * run[rows]
    return smoothed


def jitter(points: np.ndarray, seen: np.ndarray) -> float | None:
    """How much points ``[M, P, 2]`` shake: the sigma, in pixels, of white noise on every coordinate.

    The second difference ``x[t-1] - 2 x[t] + x[t+1]`` cancels steady motion and has ``sqrt(1 + 4 + 1)`` times the
    noise of ``x``. Its spread is taken from the median, ``sigma = median |second difference| / 0.6745 / sqrt(6)``,
    so that cuts and fast moves in less than half of the frames do not count.

    Only three consecutive ``seen`` frames (bool ``[M]``) give a difference; None where there are none.
    """
    whole = seen[:-2] & seen[1:-1] & seen[2:]
    if not whole.any():
        return None
    bend = points[:-2][whole] - 2 * points[1:-1][whole] + points[2:][whole]
    return float(np.median(np.abs(bend))) / 0.6745 / 6**0.5


def steady_runs(points: np.ndarray, seen: np.ndarray, cuts: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Runs of consecutive ``seen`` frames without a cut, known or felt, or a jump, as (first, stop)."""
    joined = seen[:-1] & seen[1:] & ~_leaps(_steps(points, seen))
    joined[[cut - 1 for cut in cuts if 0 < cut < len(seen)]] = False
    starts = np.flatnonzero(seen & ~np.concatenate([[False], joined]))
    stops = np.flatnonzero(seen & ~np.concatenate([joined, [False]])) + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _steps(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean way of the points from each frame to the next in face sizes, ``[M - 1]``; NaN beside unseen frames."""
    steps = np.full(max(len(points) - 1, 0), np.nan)
    for start in range(0, len(steps), _CHUNK):
        part = points[start : start + _CHUNK + 1].astype(np.float64)
        size = np.ptp(part, axis=1).max(axis=1)
        way = np.linalg.norm(np.diff(part, axis=0), axis=2).mean(axis=1)
        steps[start : start + _CHUNK] = way / np.maximum(np.maximum(size[:-1], size[1:]), 1e-6)
    steps[~(seen[:-1] & seen[1:])] = np.nan
    return steps


def _leaps(steps: np.ndarray) -> np.ndarray:
    """Which steps are no motion. A fast head takes several frames to speed up or to stop, a cut takes none."""
    padded = np.pad(steps, 2, constant_values=np.nan)
    before = np.fmax(padded[:-4], padded[1:-3])
    after = np.fmax(padded[3:-1], padded[4:])
    calmer, livelier = np.nan_to_num(np.fmin(before, after)), np.nan_to_num(np.fmax(before, after))
    return ((steps > _LEAP) & (steps > _SUDDEN * calmer)) | ((steps > _JUMP_CUT) & (steps > _SUDDEN * livelier))


def _rigid_motion(run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a run ``[n, P, 2]`` that is one motion of the whole face: ``(x @ fit) @ basis``, x as ``[n, 2 P]``.

    basis: ``[4, 2 P]``: shifts along x and y, the mean shape, and that turned by a right angle; the last two make
        zoom and turn. fit: ``[2 P, 4]``, least squares, where points count the less the more they move against the
        others: an opening mouth is no nod.
    """
    sample = run[:: -(-len(run) // _SAMPLE)].astype(np.float64)
    weights = np.ones(run.shape[1])
    for _ in range(_FITS):
        centred = sample - np.average(sample, axis=1, weights=weights)[:, None]
        shape = centred.mean(axis=0)
        shape /= max(float(np.sqrt((shape**2).sum(axis=1).mean())), 1e-6)
        turned = np.stack([-shape[:, 1], shape[:, 0]], axis=1)
        shifts = np.broadcast_to(np.eye(2)[:, None], (2, *shape.shape))
        basis = np.concatenate([shifts, shape[None], turned[None]]).reshape(4, -1)
        root = np.sqrt(np.repeat(weights, 2))
        fit = root[:, None] * np.linalg.pinv(basis * root, rcond=1e-6)
        flat = sample.reshape(len(sample), -1)
        rest = (flat - flat @ fit @ basis).reshape(sample.shape)
        spread = rest.var(axis=0).sum(axis=1)
        weights = 1 / (spread + max(float(np.median(spread)), 1e-12))
    return fit, basis


def _filtered(values: np.ndarray, half: float) -> np.ndarray:
    return np.concatenate([block for _, block in _filter(values, half)])


def _filter(values: np.ndarray, half: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Values ``[n, K]`` of consecutive frames, filtered over ``half`` frames to each side: float64 blocks of rows."""
    count, reach = len(values), math.ceil(half) - 1
    inner = _weights(reach, reach, half)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        low, high = max(0, start - reach), min(count, stop + reach)
        matrix = np.zeros((stop - start, high - low))
        for i in range(start, stop):
            before, after = min(reach, i), min(reach, count - 1 - i)
            row = inner if before == after == reach else _weights(before, after, half)
            matrix[i - start, i - before - low : i + after + 1 - low] = row
        yield slice(start, stop), matrix @ values[low:high].astype(np.float64)


@lru_cache(maxsize=4096)
def _weights(before: int, after: int, half: float) -> np.ndarray:
    """What each frame from ``-before`` to ``after`` adds to the value at 0 of the polynomial fitted to them."""
    time = np.arange(-before, after + 1) / half
    root = np.cos(np.pi / 2 * time)  # of the Hann window
    powers = time[:, None] ** np.arange(_DEGREE + 1)
    return np.linalg.pinv(powers * root[:, None])[0] * root
