"""One look at a video, from its first frame to its last: where it cuts, and where the largest face of each shot is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ..face.clip import ClipReader
from ..face.finish import make_track
from ..face.scenes import CutDetector
from ..face.sightings import Sightings
from ..face.sources import FaceObservation, LandmarkSource
from ..face.tracking import make_request
from ..profile import Profile
from ..video.frames import FrameSource
from .losses.mouth import mouth_within
from .sampling import in_box

# Landmarks as they were found: what is trained on should not depend on how a track is steadied.
_RAW = Profile(smoothing=0)
# Of the rectangle around the lips: a lip cut off teaches nothing, and a mouth all outside ends training.
_LEAST_MOUTH = 0.75


@dataclass(frozen=True)
class Watched:
    """What was seen in the ``M`` frames of a video.

    landmarks: float32 ``[M, 68, 2]`` px, NaN where unknown. boxes: int32 ``[M, 4]``, the union of landmarks and of what
    the source saw besides, within the picture (spec section 8.2); zeros where there is no face. scores: float32
    ``[M]``. faults: why a frame cannot be used, empty where it can. shots: first frame of each shot.
    """

    landmarks: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    faults: list[str]
    shots: list[int]


def watch(frames: FrameSource, source: LandmarkSource) -> Watched:
    """Follow the largest face of each shot. Frames in which the head is turned far away count as faulty too.

    Where several people are to be seen, it is the one largest in the first frame of the shot that shows anybody.
    """
    reader = ClipReader(frames)
    request = make_request(reader)
    shots = _Shots(reader.each(request.count))
    parts: list[tuple[Sightings, list[str]]] = []
    starts: list[int] = []
    while shots.more():
        starts.append(shots.position)
        seen = _sightings([_without_mesh(face) for face in source.observe(shots.frames(), request)])
        parts.append((seen, _faults(seen, request.size, request.fps)))
    landmarks = np.concatenate([_landmarks(seen) for seen, _ in parts])
    boxes = _union(landmarks, np.concatenate([seen.boxes for seen, _ in parts]), request.size)
    faults = [fault for _, shot in parts for fault in shot]
    return Watched(
        landmarks=landmarks,
        boxes=boxes,
        scores=np.concatenate([seen.scores for seen, _ in parts]),
        faults=[fault or _outside(points, box) for fault, points, box in zip(faults, landmarks, boxes, strict=True)],
        shots=starts,
    )


class _Shots:
    """A video's frames, shot by shot, decoded as they are asked for."""

    def __init__(self, pictures: Iterator[np.ndarray]) -> None:
        self._pictures = pictures
        self._cuts = CutDetector()
        self._next: np.ndarray | None = None
        self.position = 0
        self._step()

    def more(self) -> bool:
        return self._next is not None

    def frames(self) -> Iterator[np.ndarray]:
        """The frames of the shot that begins now."""
        while self._next is not None:
            picture = self._next
            cut = self._step()
            self.position += 1
            yield picture
            if cut:
                return

    def _step(self) -> bool:
        """Take the next frame; whether it begins a shot."""
        self._next = next(self._pictures, None)
        return self._next is not None and self._cuts.step(self._next)


def _without_mesh(face: FaceObservation) -> FaceObservation:
    """With the mesh's extent, in whole pixels, for a box: the meshes of an hour would fill a machine."""
    if face.mesh is None:
        return face
    (x0, y0), (x1, y1) = (edge.astype(int).tolist() for edge in (face.mesh.min(axis=0), face.mesh.max(axis=0)))
    return replace(face, mesh=None, box=(x0, y0, x1, y1))


def _sightings(faces: list[FaceObservation]) -> Sightings:
    seen = Sightings.empty(len(faces))
    for place, face in enumerate(faces):
        seen.add(place, face)
    return seen


def _landmarks(seen: Sightings) -> np.ndarray:
    return np.full((len(seen), 68, 2), np.nan, np.float32) if seen.landmarks is None else seen.landmarks


def _faults(seen: Sightings, size: tuple[int, int], fps: Fraction) -> list[str]:
    """In a few words without numbers, so that they can be counted."""
    track = make_track(seen, size, fps, _RAW)
    faults = [""] * len(seen)
    for span in track.passed:
        for frame in range(span.first, span.last + 1):
            faults[frame] = span.reason.partition(" (")[0]
    unknown = ~np.isfinite(_landmarks(seen)).all(axis=(1, 2))
    return [fault or ("no landmarks" if none else "") for fault, none in zip(faults, unknown.tolist(), strict=True)]


def _outside(landmarks: np.ndarray, box: np.ndarray) -> str:
    """What a picture's edge, at which the box ends, cuts off: the face, or a mouth that training could not show."""
    if (box[2:] <= box[:2]).any():
        return "face outside the picture"
    within = mouth_within(in_box(landmarks[None], box[None]))[0]
    return "mouth outside the picture" if within < _LEAST_MOUTH else ""


def _union(landmarks: np.ndarray, around: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    low = np.fmin(landmarks.min(axis=1), around[:, :2])
    high = np.fmax(landmarks.max(axis=1), around[:, 2:])
    boxes = np.nan_to_num(np.concatenate([low, high], axis=1)).clip(0, [*size, *size])
    return boxes.astype(np.int32)
