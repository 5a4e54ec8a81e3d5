"""Which of the persons in a clip is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InputError, NoFaceError
from .appearance import describe, likeness
from .clip import ClipReader
from .follow import extent
from .mesh_source import MeshLandmarks
from .people import Person
from .sightings import Sightings
from .tracking import make_request

PersonSelect = int | str | tuple[float, float] | np.ndarray
"""An index; one of ``WORDS``; a point (x, y) in pixels; or a reference picture uint8 RGB ``[H, W, 3]``."""

WORDS = ("largest", "smallest", "left", "right", "center")
"""The people that can be named."""

# A point this many face sides outside a face still points at it.
_NEAR = 0.5
# The least likeness to a reference: nineteen of twenty strangers are below it, and the same person in another
# photograph has 0.7 on average (see appearance.likeness).
_LEAST_LIKENESS = 0.5


def select_person(people: Sequence[Person], select: PersonSelect, size: tuple[int, int]) -> Person:
    """The person of ``people`` (as ``find_people`` gives them) who is meant.

    size: width, height of the frames.
    select: one of

    * an index;
    * one of ``WORDS``: by the median place of each over the frames that show them; of equal ones the lower index;
    * a point (x, y) in pixels: who is nearest to it in the first frame in which it lies on a face, or within half a
      face beside one; if it never does, who ever comes nearest;
    * a picture: the person most like the largest face in it. What is compared is no biometric (see ``appearance``):
      a frame of the same footage is a sure reference, another photograph a likely one.

    Raises NoFaceError when ``people`` is empty or a picture shows no face; InputError for an index out of range, a
    name or a point that cannot be used, and a picture that nobody is like, with the likeness of everyone.
    """
    if not people:
        raise NoFaceError("the clip shows nobody to select from; lower min_score, or pass boxes=... or landmarks=...")
    if isinstance(select, np.ndarray):
        return _most_like(people, select)
    if isinstance(select, str):
        return _by_name(people, select, size)
    if isinstance(select, int | np.integer) and not isinstance(select, bool):
        if not 0 <= select < len(people):
            raise InputError(f"person {select} is not in the clip; it shows {_numbered(len(people))}")
        return people[int(select)]
    if isinstance(select, tuple | list) and len(select) == 2:
        return _at_point(people, (float(select[0]), float(select[1])), size)
    raise InputError(f"select is {select!r}; pass an index, a name such as 'largest', a point (x, y) or a picture")


def _numbered(count: int) -> str:
    return "one person, index 0" if count == 1 else f"{count} persons, indices 0 to {count - 1}"


def _by_name(people: Sequence[Person], name: str, size: tuple[int, int]) -> Person:
    """By a rank in which the least comes first."""
    if name not in WORDS:
        raise InputError(f"select is {name!r}; the names are {', '.join(WORDS)}")
    middle = np.array(size) / 2
    ranks: dict[str, Callable[[np.ndarray], float]] = {
        "largest": lambda box: -float((box[2:] - box[:2]).prod()),
        "smallest": lambda box: float((box[2:] - box[:2]).prod()),
        "left": lambda box: float(box[0] + box[2]),
        "right": lambda box: -float(box[0] + box[2]),
        "center": lambda box: float(np.linalg.norm((box[:2] + box[2:]) / 2 - middle)),
    }
    return min(people, key=lambda person: ranks[name](np.nanmedian(_places(person.sightings), axis=0)))


def _at_point(people: Sequence[Person], point: tuple[float, float], size: tuple[int, int]) -> Person:
    if not all(0 <= value < limit for value, limit in zip(point, size, strict=True)):
        raise InputError(f"the point {point} is outside the {size[0]}x{size[1]} picture; pass x, y in pixels within it")
    boxes = np.stack([_places(person.sightings) for person in people])
    low, high = boxes[..., :2], boxes[..., 2:]
    outside = _length(np.maximum(low - point, point - high).clip(0))
    near = outside <= _NEAR * (high - low).max(axis=-1)  # NaN is not
    if not near.any():
        return people[int(outside.min(axis=1).argmin())]
    first = int(near.any(axis=0).argmax())
    from_centre = _length((low + high) / 2 - point)
    return people[int(np.lexsort((from_centre[:, first], outside[:, first]))[0])]


def _length(offsets: np.ndarray) -> np.ndarray:
    """Of vectors ``[..., 2]``; infinite where they are unknown."""
    return np.nan_to_num(np.linalg.norm(offsets, axis=-1), nan=np.inf)


def _most_like(people: Sequence[Person], picture: np.ndarray) -> Person:
    look = _look_of_largest(picture)
    alike = [float(likeness(look, person.looks).max()) for person in people]
    best = int(np.argmax(alike))
    if alike[best] < _LEAST_LIKENESS:
        listed = ", ".join(f"person {person.index}: {value:.2f}" for person, value in zip(people, alike, strict=True))
        raise InputError(
            f"nobody in the clip is like the face in the reference picture (likeness {listed}; "
            f"{_LEAST_LIKENESS} is needed); use a frame of the footage, or select by index"
        )
    return people[best]


def _look_of_largest(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"the reference picture must be uint8 [H, W, 3] RGB, got {picture.dtype} {list(picture.shape)}"
        )
    request = make_request(ClipReader(picture[None]), still=True)
    faces = next(MeshLandmarks().observe_everyone(iter([picture]), request))
    if not faces:
        raise NoFaceError("no face found in the reference picture; pass one that shows the person larger, or frontal")
    return describe(picture, max(faces, key=lambda face: float((extent(face)[2:] - extent(face)[:2]).prod())))


def _places(sightings: Sightings) -> np.ndarray:
    """Where the face is: float64 xyxy ``[M, 4]``, around the landmarks where there are any, NaN where not seen."""
    if sightings.landmarks is None:
        return sightings.boxes
    around = np.concatenate([sightings.landmarks.min(axis=1), sightings.landmarks.max(axis=1)], axis=1)
    return np.where(np.isfinite(around), around, sightings.boxes)
