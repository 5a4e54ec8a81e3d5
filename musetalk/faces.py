"""The faces of a clip, found and decided about: one, or one for each speaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError, NoFaceError
from .face.finish import make_track
from .face.given import GivenBoxes
from .face.mattes import Mattes
from .face.people import Person, find_people
from .face.selection import PersonSelect, select_person
from .face.sources import LandmarkSource
from .face.track import FaceTrack
from .face.tracking import track_faces
from .profile import Profile
from .video.frames import FrameSource

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FaceSearch:
    """How faces are looked for in the footage.

    boxes: int ``[M, 4]`` by the box rule, or one box for all frames. landmarks: another landmark source than the
    built-in one. count: look at the first ``count`` frames only. occluder: what stands in front of the faces.
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

    @property
    def source(self) -> LandmarkSource | None:
        """The landmark source asked for, None for the built-in one."""
        return GivenBoxes(self.boxes) if self.boxes is not None else self.landmarks

    def one(self, select: PersonSelect = "largest", progress: Progress | None = None) -> FaceTrack:
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
            return self._usable(track)
        return self.several([select], progress)[0][1]

    def several(self, selects: Sequence[PersonSelect], progress: Progress | None = None) -> list[tuple[int, FaceTrack]]:
        """The index and the track of each person selected, in the order of ``selects``.

        Raises NoFaceError where nobody is seen, or a person in no frame that can be redrawn; InputError for a
        selection that fits nobody.
        """
        people = self.everyone(progress)
        found: list[tuple[int, FaceTrack]] = []
        for select in selects:
            person = select_person(people, select, self.frames.size)
            found.append((person.index, self._usable(self.track_of(person))))
        return found

    def everyone(self, progress: Progress | None = None) -> list[Person]:
        """Every person of the clip. Raises NoFaceError where nobody is seen."""
        people = find_people(
            self.frames,
            source=self.source,
            count=self.count,
            parity=self.profile.parity,
            still=self.frames.is_still,
            progress=progress,
        )
        if not people:
            raise NoFaceError(self._nobody(self.count or len(self.frames)))
        return people

    def track_of(self, person: Person) -> FaceTrack:
        """What is redrawn of a person, which may be nothing."""
        return make_track(
            person.sightings,
            self.frames.size,
            self.frames.fps,
            self.profile,
            still=self.frames.is_still,
            occluder=self.occluder,
        )

    def _usable(self, track: FaceTrack) -> FaceTrack:
        if track.valid.any():
            return track
        reasons = {span.reason for span in track.passed}
        if reasons <= {"no face"}:
            raise NoFaceError(self._nobody(len(track)))
        raise NoFaceError(
            f"none of the {len(track)} frames of {self._name} shows a face that can be redrawn "
            f"({'; '.join(sorted(reasons))}); raise max_yaw, max_pitch or max_covered, or use other footage"
        )

    def _nobody(self, frames: int) -> str:
        return (
            f"no face found in any of the {frames} frames of {self._name}; "
            "pass boxes=..., lower min_score, or use footage that shows a face"
        )

    @property
    def _name(self) -> str:
        return str(self.frames.path or "the given pictures")
