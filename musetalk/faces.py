"""The faces of a clip, found and decided about: one, or one for each speaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError, NoFaceError
from .face.finish import make_track
from .face.given import GivenBoxes
from .face.mattes import Mattes
from .face.other_faces import OtherFaces
from .face.people import Person, find_people
from .face.selection import PersonSelect, check_selection, select_person
from .face.sources import LandmarkSource
from .face.track import FaceTrack
from .face.tracking import track_faces
from .profile import Profile
from .video.frames import FrameSource

Progress = Callable[[int, int], None]
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class Found:
    """One face that can be redrawn.

    person: index among the people of the clip, None where one face was followed. occluder: what stands in front of it:
    the caller's, and the faces of everybody else where they are known.
    """

    person: int | None
    track: FaceTrack
    occluder: Mattes | None


@dataclass(frozen=True)
class FaceSearch:
    """How faces are looked for in the footage.

    boxes: int ``[M, 4]`` by the box rule, or one box for all frames. landmarks: another landmark source than the
    built-in one. count: only the first ``count`` frames are redrawn. occluder: what stands in front of the faces.
    """

    frames: FrameSource
    profile: Profile
    boxes: Any = None
    landmarks: LandmarkSource | None = None
    count: int | None = None
    occluder: Mattes | None = None

    def __post_init__(self) -> None:
        if self.boxes is not None and self.landmarks is not None:
            raise InputError("boxes and landmarks were both given; pass one of them")
        if self.profile.mask_source == "hull" and isinstance(self.source, GivenBoxes):
            raise InputError("mask_source 'hull' needs landmarks, and only boxes were given; use 'auto' or 'mesh'")

    @property
    def source(self) -> LandmarkSource | None:
        """The landmark source asked for, None for the built-in one."""
        return GivenBoxes(self.boxes) if self.boxes is not None else self.landmarks

    def one(self, select: PersonSelect = "largest", progress: Progress | None = None) -> Found:
        """Track one face through the footage.

        ``"largest"`` and a point (x, y) choose in the first frame that shows a face, and follow that one; every other
        selection looks at all people of the clip first. Raises NoFaceError where no frame can be redrawn.
        """
        if isinstance(select, tuple) or (isinstance(select, str) and select == "largest"):
            track = track_faces(
                self.frames,
                source=self.source,
                count=self.count,
                select=select,
                profile=self.profile,
                still=self.frames.is_still,
                occluder=self.occluder,
                progress=progress,
            )
            return Found(None, self._usable(track), self.occluder)
        return self.several([select], progress)[0]

    def several(self, selects: Sequence[PersonSelect], progress: Progress | None = None) -> list[Found]:
        """The persons selected, in the order of ``selects``.

        Raises NoFaceError where nobody is seen, or a person in no frame that can be redrawn; InputError for a
        selection that fits nobody.
        """
        checked = [check_selection(select, self.frames.size) for select in selects]
        people = self.everyone(progress)
        found: list[Found] = []
        for select in checked:
            person = select_person(people, select, self.frames.size)
            others = [other for other in people if other.index != person.index]
            occluder = OtherFaces(others, self.frames.size, self.occluder) if others else self.occluder
            found.append(Found(person.index, self._usable(self._track(person, occluder)), occluder))
        return found

    def everyone(self, progress: Progress | None = None) -> list[Person]:
        """Every person of the whole clip, so that the same number is the same person however much is redrawn.

        Raises NoFaceError where nobody is seen.
        """
        people = find_people(
            self.frames,
            source=self.source,
            parity=self.profile.parity,
            still=self.frames.is_still,
            progress=progress,
        )
        if not people:
            raise NoFaceError(self._nobody(len(self.frames)))
        return people

    def track_of(self, person: Person) -> FaceTrack:
        """What is redrawn of a person, which may be nothing."""
        return self._track(person, self.occluder)

    def _track(self, person: Person, occluder: Mattes | None) -> FaceTrack:
        return make_track(
            person.sightings(self.count),
            self.frames.size,
            self.frames.fps,
            self.profile,
            still=self.frames.is_still,
            occluder=occluder,
        )

    def _usable(self, track: FaceTrack) -> FaceTrack:
        if track.valid.any():
            return track
        reasons = list(dict.fromkeys(span.reason for span in track.passed))
        if reasons == ["no face"]:
            raise NoFaceError(self._nobody(len(track)))
        more = f"; and {len(reasons) - _SHOWN_REASONS} other reasons" if len(reasons) > _SHOWN_REASONS else ""
        raise NoFaceError(
            f"none of the {len(track)} frames of {self._name} shows a face that can be redrawn "
            f"({'; '.join(reasons[:_SHOWN_REASONS])}{more}); raise max_yaw, max_pitch or max_covered, turn on upright "
            "for a head on its side, or use other footage"
        )

    def _nobody(self, frames: int) -> str:
        return (
            f"no face found in any of the {frames} frames of {self._name}; "
            "pass boxes=..., lower min_score, or use footage that shows a face"
        )

    @property
    def _name(self) -> str:
        return str(self.frames.path or "the given pictures")
