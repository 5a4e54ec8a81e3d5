from __future__ import annotations

import numpy as np
import pytest

from musetalk.errors import InputError, NoFaceError
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.people import Person, find_people
from musetalk.face.selection import Reference, check_selection, select_person
from musetalk.face.sources import FaceObservation

from .people_clips import astronaut, compose, hopper, plain, stay

SIZE = (480, 270)


def person(index: int, boxes: dict[int, tuple[int, int, int, int]], look: tuple[float, ...] = (1.0, 0.0)) -> Person:
    """Seen in the given frames of ten."""
    faces = tuple(FaceObservation(box=box, score=1.0) for box in boxes.values())
    portrait = np.zeros((8, 8, 3), np.uint8)
    return Person(index, 10, tuple(boxes), faces, portrait, np.array([look], np.float32))


@pytest.fixture
def people() -> list[Person]:
    """0: small, left, from frame 0. 1: large, in the middle, from frame 2. 2: right, from frame 5, as large as 0."""
    return [
        person(0, {i: (20 + i, 60, 60 + i, 100) for i in range(10)}),
        person(1, dict.fromkeys(range(2, 10), (200, 80, 290, 180))),
        person(2, dict.fromkeys(range(5, 10), (400, 60, 440, 100))),
    ]


@pytest.mark.parametrize("index", [0, 1, np.int64(2)])
def test_by_index(people: list[Person], index: int) -> None:
    assert select_person(people, index, SIZE).index == index


@pytest.mark.parametrize(("name", "index"), [("largest", 1), ("smallest", 0), ("left", 0), ("right", 2), ("center", 1)])
def test_by_name(people: list[Person], name: str, index: int) -> None:
    assert select_person(people, name, SIZE).index == index


@pytest.mark.parametrize(
    ("point", "index"),
    [
        ((40, 80), 0),
        ((250, 120), 1),
        ((420, 80), 2),  # though person 2 is not there in the first frames
        ((452, 80), 2),  # beside the face
        ((240, 250), 1),  # nowhere near anybody
        ((0, 269), 0),
    ],
)
def test_by_point(people: list[Person], point: tuple[float, float], index: int) -> None:
    assert select_person(people, point, SIZE).index == index


def test_a_point_means_who_is_there_first() -> None:
    first = person(0, {0: (100, 100, 150, 150), 1: (300, 100, 350, 150)})
    second = person(1, {0: (300, 100, 350, 150), 1: (100, 100, 150, 150)})
    assert select_person([first, second], (320, 120), SIZE) is second


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (3, "person 3 is not in the clip; it shows 3 persons, indices 0 to 2"),
        (-1, "person -1 is not in the clip"),
        ("tallest", "the names are largest, smallest, left, right, center"),
        ((480, 10), "outside the 480x270 picture"),
        ((float("nan"), 10), "outside"),
        ((1, 2, 3), "select is"),
        (("left", 1), "select is"),
        ((None, 1), "select is"),
        ((10, True), "select is"),
        ((1 + 2j, 1), "select is"),
        ((10**400, 1), "outside"),
        (((1, 2), (3, 4)), "select is"),
        (None, "select is None"),
        ({"x": 1, "y": 2}, "select is"),
        (True, "select is True"),
        (1.5, "select is 1.5"),
        (np.zeros((8, 8), np.uint8), "reference picture must be uint8"),
    ],
)
def test_what_cannot_be_selected(people: list[Person], select: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_person(people, select, SIZE)  # type: ignore[arg-type]
    if not (isinstance(select, int) and select == 3):
        with pytest.raises(InputError, match=message):
            check_selection(select, SIZE)  # type: ignore[arg-type]


@pytest.mark.parametrize("select", [0, np.int64(7), "left", (3, 4.5), [np.float32(1), 2]])
def test_what_was_checked_is_selected_without_another_look(people: list[Person], select: object) -> None:
    checked = check_selection(select, SIZE)  # type: ignore[arg-type]
    assert checked == (tuple(select) if isinstance(select, list) else select)
    assert check_selection(checked, SIZE) == checked


def test_nobody_to_select_from() -> None:
    with pytest.raises(NoFaceError, match="shows nobody"):
        select_person([], 0, SIZE)


@pytest.fixture(scope="module")
def cast(mesh: FaceMesh) -> list[Person]:
    """0: the astronaut, 1: Hopper."""
    frames, _ = compose([(astronaut(), stay(130, 120, 60)), (hopper(), stay(350, 125, 80))], 3, plain())
    return find_people(frames, source=MeshLandmarks(mesh))


def test_by_reference_picture(cast: list[Person], two_people: np.ndarray) -> None:
    assert select_person(cast, astronaut().picture, SIZE).index == 0
    assert select_person(cast, hopper().picture[:, ::-1], SIZE).index == 1  # mirrored
    assert select_person(cast, two_people, SIZE).index == 1  # whose face is the larger one


def test_a_reference_that_is_nobody(cast: list[Person]) -> None:
    with pytest.raises(InputError, match=r"nobody in the clip is like .* \(likeness person 0: -?0\.\d\d"):
        select_person(cast[:1], hopper().picture, SIZE)
    with pytest.raises(NoFaceError, match="no face found in the reference picture"):
        check_selection(plain(), SIZE)


def test_a_checked_reference_picture_is_not_searched_again(
    cast: list[Person], mesh: FaceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = check_selection(astronaut().picture, SIZE)
    assert isinstance(checked, Reference) and check_selection(checked, SIZE) is checked
    monkeypatch.delattr(MeshLandmarks, "observe_everyone")
    assert select_person(cast, checked, SIZE).index == 0
