"""Every person in a clip, each followed with one identity through crossings and cuts."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from .appearance import describe, view_quality
from .clip import ClipReader, Frames
from .identities import group
from .mesh_source import MeshLandmarks
from .scenes import CutDetector
from .sightings import Sightings
from .sources import FaceObservation, LandmarkSource, TrackRequest
from .tracking import check_answered, make_request, stop_if
from .tracklets import Linker, Seen, Tracklet


@dataclass(frozen=True, eq=False)
class Person:
    """Someone the clip shows.

    index: 0, 1, ... in order of first appearance, left to right within a frame.
    length: frames in the clip, as far as it was looked at.
    frames, faces: where the person was seen, ascending, and what was seen there. Nothing is kept for other frames: of
        many people each is in few of them.
    portrait: uint8 RGB ``[h, w, 3]``, the face where it was seen best, at most 256 pixels a side.
    looks: float32 ``[K, D]``, what they look like in ``K`` views (see ``appearance.describe``).
    cuts: frames of the clip, from 1 on, that begin a shot.
    """

    index: int
    length: int
    frames: tuple[int, ...] = field(repr=False)
    faces: tuple[FaceObservation, ...] = field(repr=False)
    portrait: np.ndarray = field(repr=False)
    looks: np.ndarray = field(repr=False)
    cuts: tuple[int, ...] = ()

    def at(self, frame: int) -> FaceObservation | None:
        """What was seen in a frame; None where the person was not."""
        place = bisect_left(self.frames, frame)
        return self.faces[place] if place < len(self.frames) and self.frames[place] == frame else None

    def sightings(self, count: int | None = None) -> Sightings:
        """A row for each frame of the clip, or of its first ``count`` frames; made anew with every call."""
        count = self.length if count is None else min(count, self.length)
        rows = Sightings.empty(count, tuple(cut for cut in self.cuts if cut < count))
        for frame, face in zip(self.frames, self.faces, strict=True):
            if frame < count:
                rows.add(frame, face)
        return rows


def find_people(
    frames: Frames,
    *,
    source: LandmarkSource | None = None,
    count: int | None = None,
    min_score: float = 0.5,
    parity: bool = False,
    still: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Person]:
    """Find everyone, and tell who is who.

    frames, source, count, min_score, progress, cancelled: as in ``track_faces``.
    parity: look as upstream does, where the source knows how.
    still: frames are pictures of their own; people are recognised by what they look like alone.

    Within a shot a face is followed by place, size and appearance, and not past a doubt: where two overlap or a
    shot ends, following ends too. What was followed is then joined to persons by appearance over the whole clip
    (see ``identities.group``), which is good at telling a few different people apart, and is no face recognition:
    a person who comes back in a very different pose or light may be counted twice, and two who look much alike
    and are never seen together may be counted as one.

    A frame in which the face is fully hidden is none of its person's frames. A clip that shows nobody gives an empty
    list.
    Raises InputError for an option or a clip that cannot be used, Cancelled when ``cancelled`` says so.
    """
    source = MeshLandmarks() if source is None else source
    clip = ClipReader(frames)
    request = make_request(clip, count=count, min_score=min_score, still=still, parity=parity)
    linker, detector, cuts = Linker(float(request.fps)), CutDetector(), list[int]()
    done = 0
    for i, (frame, faces) in enumerate(_observed(source, clip, request)):
        stop_if(cancelled, i, request.count)
        cut = still or detector.step(frame)
        if cut and i and not still:
            cuts.append(i)
        seen = [Seen(face, describe(frame, face), view_quality(face, request.size)) for face in faces]
        linker.step(i, frame, seen, cut)
        done = i + 1
        if progress is not None:
            progress(done, request.count)
    check_answered(source, done, request.count)
    groups = group(linker.tracklets, 1 if still else request.count, float(request.fps))
    groups.sort(key=_first_appearance)
    return [_person(index, tracklets, request.count, tuple(cuts)) for index, tracklets in enumerate(groups)]


def _observed(
    source: LandmarkSource, clip: ClipReader, request: TrackRequest
) -> Iterator[tuple[np.ndarray, list[FaceObservation]]]:
    """Every frame with its faces. A source may take frames ahead, or none: they are kept until it answers."""
    waiting: deque[np.ndarray] = deque()
    frames = clip.each(request.count)

    def handed_out() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            yield frame

    for faces in islice(source.observe_everyone(handed_out(), request), request.count):
        if not waiting:
            waiting.append(next(frames))
        yield waiting.popleft(), faces


def _first_appearance(tracklets: Sequence[Tracklet]) -> tuple[int, float]:
    first = min(tracklets, key=lambda t: t.frames[0])
    return first.frames[0], float(first.first.centre[0])


def _person(index: int, tracklets: Sequence[Tracklet], length: int, cuts: tuple[int, ...]) -> Person:
    seen = {frame: face for t in tracklets for frame, face in zip(t.frames, t.faces, strict=True)}
    frames = tuple(sorted(seen))
    return Person(
        index=index,
        length=length,
        frames=frames,
        faces=tuple(seen[frame] for frame in frames),
        portrait=max(tracklets, key=lambda t: t.quality).portrait,
        looks=np.concatenate([t.looks for t in tracklets]),
        cuts=cuts,
    )
