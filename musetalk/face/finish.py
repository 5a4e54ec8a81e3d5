"""From what was seen of a person to the track that is redrawn: steadied, boxed and judged."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..profile import Profile
from .boxes import Box, face_box, fit_box, shift_box, turned_box
from .confidence import judge
from .head_pose import head_pose
from .mattes import Mattes, covered
from .one_euro import smooth_live
from .sightings import Sightings
from .smoothing import jitter, smooth
from .track import FaceTrack, Jitter
from .upright import as_turn, turns_of


def make_track(
    sightings: Sightings,
    size: tuple[int, int],
    fps: Fraction,
    profile: Profile,
    *,
    still: bool = False,
    live: bool = False,
    occluder: Mattes | None = None,
) -> FaceTrack:
    """Decide, for every frame, where the face box is and whether the face is redrawn.

    size: width, height of the frames.
    still: frames are pictures of their own, so nothing is carried from one to the next.
    live: no frame depends on a later one, as where they are played while they come in: landmarks are steadied by a
        OneEuro filter, which lags a little, and nothing settles or fades where the face comes and goes.
    occluder: what stands in front of the face; frames in which it covers the mouth pass through.
    Under ``profile.parity`` there is no smoothing, no turning and no judgement: every face that has a box is redrawn.
    """
    plain = profile.parity
    landmarks, mesh, seen = sightings.landmarks, sightings.mesh, sightings.seen
    steadiness: Jitter | None = None
    if landmarks is not None and is_smoothed(profile, still=still):
        known = np.isfinite(landmarks).all(axis=(1, 2))
        raw, steadied, cuts = landmarks, smooth_live if live else smooth, sightings.cuts
        landmarks = steadied(raw, known, profile.smoothing, fps, cuts)
        before, after = jitter(raw, known), jitter(landmarks, known)
        if before is not None and after is not None:
            steadiness = Jitter(before, after)
        if mesh is not None:
            mesh = steadied(mesh, np.isfinite(mesh).all(axis=(1, 2)), profile.smoothing, fps, cuts)
    turns = turns_of(landmarks) if landmarks is not None and profile.upright and not plain else None
    boxes, boxed = np.zeros((len(sightings), 4), np.int32), np.zeros(len(sightings), bool)
    for i in np.flatnonzero(seen):
        points = None if landmarks is None or np.isnan(landmarks[i]).any() else landmarks[i]
        turn = None if turns is None else as_turn(turns[i])
        box = None if points is None or turn is None else turned_box(points, turn, size, profile.bbox_shift)
        if box is None:
            if turns is not None:
                turns[i] = np.nan  # this box is level
            box = _level_box(points, sightings.boxes[i], size, profile)
        if box is not None:
            boxes[i], boxed[i] = box, True
    if plain:
        verdict = judge(boxed, sightings.scores, None, None, profile, fps)
    else:
        pose = None if landmarks is None else head_pose(landmarks)
        hidden = None if occluder is None else covered(occluder, boxes, boxed, turns)
        verdict = judge(boxed, sightings.scores, pose, hidden, profile, None if still or live else fps)
    boxes[~verdict.valid] = 0
    return FaceTrack(
        boxes=boxes,
        valid=verdict.valid,
        landmarks=landmarks,
        mesh=mesh,
        scores=sightings.scores,
        weights=verdict.weights,
        confidence=verdict.confidence,
        passed=verdict.passed,
        turns=turns,
        jitter=steadiness,
    )


def is_smoothed(profile: Profile, *, still: bool) -> bool:
    """Whether landmarks are steadied over time, so that it matters where a shot begins."""
    return profile.smoothing > 0 and not still and not profile.parity


def _level_box(points: np.ndarray | None, given: np.ndarray, size: tuple[int, int], profile: Profile) -> Box | None:
    """The box of one frame in the picture as it was filmed."""
    fallback: Box | None = (
        None if np.isnan(given).any() else (int(given[0]), int(given[1]), int(given[2]), int(given[3]))
    )
    if points is None:
        return None if fallback is None else fit_box(shift_box(fallback, profile.bbox_shift), size, profile.parity)
    box = face_box(points, size, profile.bbox_shift, profile.parity)
    return fit_box(fallback, size, profile.parity) if box is None and fallback is not None else box
