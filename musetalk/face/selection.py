"""Which of the persons in a clip is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, NoFaceError
from .appearance import describe, likeness
from .clip import ClipReader
from .follow import extent
from .mesh_source import MeshLandmarks
from .people import Person
from .tracking import check_point, make_request


@dataclass(frozen=True, eq=False)
class Reference:
    """Whoever is most like this: ``look`` float32 ``[D]``, the largest face of a reference picture."""

    look: np.ndarray


PersonSelect = int | str | tuple[float, float] | np.ndarray | Reference
"""An index; one of ``WORDS``; a point (x, y) in pixels; a reference picture uint8 RGB ``[H, W, 3]``, or its face."""

WORDS = ("largest", "smallest", "left", "right", "center")
"""The people that can be named."""

# A point this many face sides outside a face still points at it.
_NEAR = 0.5
# The least likeness to a reference: nineteen of twenty strangers are below it, and the same person in another
# photograph has 0.7 on average (see appearance.likeness).
_LEAST_LIKENESS = 0.5


def check_selection(select: PersonSelect, size: tuple[int, int]) -> PersonSelect:
    """What is wrong with a selection by itself, told before a clip of pictures of ``size`` (w, h) is searched.

    Returns it as ``select_person`` takes it without looking again: a reference picture as a Reference, the face in it.
    Raises NoFaceError for a picture that shows no face; InputError for an index below 0, an unknown name, a point
    outside the picture, and what is nothing to select by.
    """
    if isinstance(select, Reference):
        return select
    if isinstance(select, np.ndarray):
        return Reference(_look_of_largest(select))
    if isinstance(select, str):
        if select not in WORDS:
            raise InputError(f"select is {select!r}; the names are {', '.join(WORDS)}")
        return select
    if isinstance(select, int | np.integer) and not isinstance(select, bool):
        if select < 0:
            raise InputError(f"person {select} is not in the clip; the first index is 0")
        return int(select)
    point = check_point(select, size)
    if point is None:
        raise InputError(f"select is {select!r}; pass an index, a name such as 'largest', a point (x, y) or a picture")
    return point


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

    Raises what ``check_selection`` does; NoFaceError when ``people`` is empty; InputError for an index out of range
    and a picture that nobody is like, with the likeness of everyone.
    """
    checked = check_selection(select, size)
    if not people:
        raise NoFaceError("the clip shows nobody to select from; lower min_score, or pass boxes=... or landmarks=...")
    if isinstance(checked, Reference):
        return _most_like(people, checked.look)
    if isinstance(checked, str):
        return _by_name(people, checked, size)
    if isinstance(checked, int):
        if checked >= len(people):
            raise InputError(f"person {checked} is not in the clip; it shows {_numbered(len(people))}")
        return people[checked]
    assert isinstance(checked, tuple)
    return _at_point(people, checked)


def _numbered(count: int) -> str:
    return "one person, index 0" if count == 1 else f"{count} persons, indices 0 to {count - 1}"


def _by_name(people: Sequence[Person], name: str, size: tuple[int, int]) -> Person:
    """By a rank in which the least comes first."""
    middle = np.array(size) / 2
    ranks: dict[str, Callable[[np.ndarray], float]] = {
        "largest": lambda box: -float((box[2:] - box[:2]).prod()),
        "smallest": lambda box: float((box[2:] - box[:2]).prod()),
        "left": lambda box: float(box[0] + box[2]),
        "right": lambda box: -float(box[0] + box[2]),
        "center": lambda box: float(np.linalg.norm((box[:2] + box[2:]) / 2 - middle)),
    }
    return min(people, key=lambda person: ranks[name](np.median(_places(person), axis=0)))


def _at_point(people: Sequence[Person], point: tuple[float, float]) -> Person:
    # Of each person: the first frame that shows them near the point with how far it is from them there, or, after
    # all of those, the least distance at which they are ever seen.
    ranks = []
    for person in people:
        boxes = _places(person)
        low, high = boxes[:, :2], boxes[:, 2:]
        outside = np.linalg.norm(np.maximum(low - point, point - high).clip(0), axis=1)
        near = outside <= _NEAR * (high - low).max(axis=1)
        if near.any():
            first = int(near.argmax())
            from_centre = float(np.linalg.norm((low[first] + high[first]) / 2 - point))
            ranks.append((float(person.frames[first]), float(outside[first]), from_centre))
        else:
            ranks.append((np.inf, float(outside.min()), 0.0))
    return people[min(range(len(people)), key=ranks.__getitem__)]


def _most_like(people: Sequence[Person], look: np.ndarray) -> Person:
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


def _places(person: Person) -> np.ndarray:
    """Where the face is in each frame that shows it: float64 xyxy ``[N, 4]``, around the landmarks where there are."""
    return np.stack([extent(face) for face in person.faces])
