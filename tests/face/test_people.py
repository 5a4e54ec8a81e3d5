"""Everyone in a clip, under one identity from end to end, on composed clips whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

import cv2
import numpy as np
import pytest

from musetalk.errors import Cancelled, InputError
from musetalk.face import clip as clip_reading
from musetalk.face.blazeface import iou
from musetalk.face.boxes import face_box
from musetalk.face.given import GivenFaces
from musetalk.face.identities import group
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.people import Person, find_people
from musetalk.face.sources import FaceObservation, TrackRequest
from musetalk.face.tracklets import Seen, Tracklet

from .people_clips import Course, Truth, astronaut, compose, hopper, line, plain, stay, textured

SIZE = (480, 270)
Clip = tuple[np.ndarray, list[Truth]]


@pytest.fixture
def source(mesh: FaceMesh) -> MeshLandmarks:
    return MeshLandmarks(mesh)


def still_ones() -> Clip:
    return compose([(astronaut(), stay(130, 120, 64)), (hopper(), stay(350, 125, 80))], 8, plain())


def moving() -> Clip:
    n = 16
    up_and_down: Course = lambda i: (350 + 12 * np.sin(i / 2), 125 + 10 * np.cos(i / 3), 76 + i)  # noqa: E731
    return compose([(astronaut(), line((90, 110, 64), (200, 130, 70), n)), (hopper(), up_and_down)], n, textured())


def crossing(n: int = 40) -> Clip:
    """Hopper passes in front of the astronaut, who is fully hidden for some frames."""
    behind, front = line((110, 120, 62), (370, 120, 62), n), line((370, 122, 82), (110, 122, 82), n)
    return compose([(astronaut(), behind), (hopper(), front)], n, textured())


def waiting_behind(n: int = 40) -> Clip:
    """Hopper passes in front of the astronaut, who does not move."""
    return compose([(astronaut(), stay(240, 120, 64)), (hopper(), line((80, 122, 84), (400, 122, 84), n))], n, plain())


def leaving(n: int = 36) -> Clip:
    """The astronaut leaves to the left and comes back from the right."""

    def course(i: int) -> tuple[float, float, float] | None:
        if i < 10:
            return 120 - 20 * i, 120, 64
        return (560 - 12 * (i - 18), 120, 64) if i >= 18 else None

    return compose([(astronaut(), course), (hopper(), stay(270, 125, 76))], n, plain())


def cut_and_swap(same_set: bool) -> Clip:
    """A hard cut in the middle, after which the two have changed places."""
    n, cut = 20, 10
    left, right = (130, 120, 68), (350, 122, 76)
    sets = plain(), plain() if same_set else textured()
    return compose(
        [
            (astronaut(), lambda i: left if i < cut else (right[0], right[1], 66)),
            (hopper(), lambda i: right if i < cut else (left[0], left[1], 80)),
        ],
        n,
        lambda i: sets[i >= cut],
    )


def drifting_light() -> Clip:
    n = 20
    return compose(
        [(astronaut(), stay(130, 120, 64)), (hopper(), line((340, 125, 80), (360, 125, 80), n))],
        n,
        plain(),
        light=lambda i: 1.15 - 0.75 * i / (n - 1),
    )


def flash() -> Clip:
    return compose(
        [(astronaut(), stay(130, 120, 64)), (hopper(), stay(350, 125, 80))],
        16,
        textured(),
        light=lambda i: 2.2 if i in (6, 7) else 1.0,
    )


def small_beside_large() -> Clip:
    return compose([(astronaut(), stay(90, 60, 26)), (hopper(), stay(320, 130, 110))], 12, plain())


CLIPS: dict[str, Callable[[], Clip]] = {
    "still": still_ones,
    "moving": moving,
    "crossing": crossing,
    "waiting behind": waiting_behind,
    "leaving": leaving,
    "cut": lambda: cut_and_swap(same_set=False),
    "cut on one set": lambda: cut_and_swap(same_set=True),
    "light": drifting_light,
    "flash": flash,
    "small": small_beside_large,
}


def boxes(person: Person) -> np.ndarray:
    """float64 ``[M, 4]``, NaN where the person was not seen."""
    rows = np.full((person.length, 4), np.nan)
    for i, face in zip(person.frames, person.faces, strict=True):
        box = face.box if face.landmarks is None else face_box(face.landmarks, SIZE)
        if box is not None:
            rows[i] = box
    return rows


def mistakes(people: list[Person], truths: list[Truth]) -> list[str]:
    """What is wrong with the identities; ``truths`` in the order the people should have."""
    wrong = []
    for person, truth in zip(people, truths, strict=True):
        found = boxes(person)
        inside = np.clip(truth.boxes, 0, (*SIZE, *SIZE))
        for i, box in enumerate(found):
            overlaps = 0.0 if np.isnan(box).any() else float(iou(box, inside[i : i + 1])[0])
            if truth.visible[i] and overlaps < 0.5:
                wrong.append(f"person {person.index} not at {inside[i]} in frame {i}: {box}")
            if truth.hidden[i] and not np.isnan(box).any():
                wrong.append(f"person {person.index} is hidden in frame {i}: {box}")
            if not truth.hidden[i] and not np.isnan(box).any() and overlaps < 0.3:
                wrong.append(f"person {person.index} is elsewhere in frame {i}: {box}")
    return wrong


def in_order(truths: list[Truth]) -> list[Truth]:
    """By first appearance, then from the left."""
    return sorted(truths, key=lambda t: (int(t.visible.argmax()), int(t.boxes[t.visible.argmax(), 0])))


@pytest.mark.parametrize("name", CLIPS)
def test_everyone_keeps_their_identity(source: MeshLandmarks, name: str) -> None:
    frames, truths = CLIPS[name]()
    people = find_people(frames, source=source)
    assert [person.index for person in people] == [0, 1]
    assert all(person.length == len(frames) for person in people)
    assert mistakes(people, in_order(truths)) == []


def test_one_person_is_joined_again_over_cuts(source: MeshLandmarks) -> None:
    shots = [(120, 130, 60), (300, 140, 100), (400, 110, 44)]
    frames, (truth,) = compose(
        [(hopper(), lambda i: shots[i // 6])],
        18,
        lambda i: (plain(), textured(seed=1), textured(seed=2))[i // 6],
        light=lambda i: (1.0, 0.6, 1.2)[i // 6],
    )
    people = find_people(frames, source=source)
    assert len(people) == 1
    assert mistakes(people, [truth]) == []


def test_pictures_of_their_own_are_sorted_by_appearance_alone(source: MeshLandmarks) -> None:
    places = [((100, 120, 60), (350, 125, 80)), ((390, 130, 70), (120, 125, 70)), ((240, 120, 64), (90, 110, 60))]
    frames, truths = compose(
        [(astronaut(), lambda i: places[i][0]), (hopper(), lambda i: places[i][1])], 3, lambda i: textured(seed=i)
    )
    people = find_people(frames, source=source, still=True)
    assert len(people) == 2
    assert mistakes(people, in_order(truths)) == []


def test_twins_seen_together_are_two(source: MeshLandmarks) -> None:
    frames, truths = compose([(hopper(), stay(120, 125, 70)), (hopper(), stay(360, 125, 70))], 8, plain())
    people = find_people(frames, source=source)
    assert len(people) == 2
    assert mistakes(people, truths) == []


def test_portraits_show_the_person(source: MeshLandmarks, mesh: FaceMesh) -> None:
    frames, _ = still_ones()
    for person in find_people(frames, source=source):
        assert person.portrait.dtype == np.uint8 and max(person.portrait.shape[:2]) <= 256
        assert len(mesh.detect(person.portrait)) == 1


def same(some: list[Person], others: list[Person]) -> None:
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        assert a.frames == b.frames and a.cuts == b.cuts
        np.testing.assert_array_equal(a.sightings().landmarks, b.sightings().landmarks)
        np.testing.assert_array_equal(a.sightings().scores, b.sightings().scores)
        np.testing.assert_array_equal(a.portrait, b.portrait)


class ReadsAhead:
    """A source that takes five frames before it answers, as a network that works in batches does."""

    name = "batches"

    def __init__(self, source: MeshLandmarks) -> None:
        self._source = source

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        return self._source.observe(frames, request)

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        def ahead() -> Iterator[np.ndarray]:
            while batch := list(islice(frames, 5)):
                yield from batch

        return self._source.observe_everyone(ahead(), request)


def test_chunks_and_batches_change_nothing(source: MeshLandmarks, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _ = cut_and_swap(same_set=False)
    whole = find_people(frames, source=source)
    monkeypatch.setattr(clip_reading, "_CHUNK_BYTES", 3 * frames[0].nbytes)
    same(find_people(frames, source=source), whole)
    same(find_people(frames, source=ReadsAhead(source)), whole)


def given(truths: list[Truth], score: float = 1.0) -> GivenFaces:
    """The true boxes of all visible faces, as another program might give them."""
    return GivenFaces(
        [
            [FaceObservation(box=tuple(t.boxes[i].tolist()), score=score) for t in truths if t.shown[i] > 0.6]
            for i in range(len(truths[0].shown))
        ]
    )


@pytest.mark.parametrize("name", ["crossing", "leaving", "cut on one set"])
def test_boxes_without_landmarks(name: str) -> None:
    frames, truths = CLIPS[name]()
    people = find_people(frames, source=given(truths))
    assert len(people) == 2
    assert mistakes(people, in_order(truths)) == []


def with_guest(frames: int, score: float) -> tuple[np.ndarray, GivenFaces]:
    """Hopper throughout, and the astronaut in the given number of frames in the middle."""
    picture, truths = compose(
        [(hopper(), stay(350, 125, 80)), (astronaut(), lambda i: (110, 120, 64) if 10 <= i < 10 + frames else None)],
        24,
        plain(),
    )
    host, guest = truths
    faces = [
        [FaceObservation(box=tuple(host.boxes[i].tolist()), score=1.0)]
        + [FaceObservation(box=tuple(guest.boxes[i].tolist()), score=score)] * bool(guest.visible[i])
        for i in range(24)
    ]
    return picture, GivenFaces(faces)


@pytest.mark.parametrize(("frames", "score", "people"), [(2, 1.0, 2), (2, 0.6, 1), (10, 0.6, 2)])
def test_brief_and_doubtful_is_nobody(frames: int, score: float, people: int) -> None:
    picture, source = with_guest(frames, score)
    found = find_people(picture, source=source)
    assert len(found) == people
    if people == 2:
        assert found[1].frames == tuple(range(10, 10 + frames))


def test_a_single_doubtful_frame_counts_when_it_is_all_there_is() -> None:
    frames, truths = still_ones()
    assert len(find_people(frames, source=given(truths, score=0.55), count=1)) == 2


def test_one_face_seen_twice_is_one_person() -> None:
    frames, truths = compose([(hopper(), stay(240, 125, 80))], 6, plain())
    box = FaceObservation(box=tuple(truths[0].boxes[0].tolist()), score=0.8)
    double = FaceObservation(box=tuple((truths[0].boxes[0] + 3).tolist()), score=0.9)
    (person,) = find_people(frames, source=GivenFaces([[box, double]]))
    assert person.sightings().scores.tolist() == pytest.approx([0.9] * 6)


def test_boxes_on_blank_pictures_are_followed_by_place() -> None:
    boxes = [[(20 + 2 * i, 30, 60 + 2 * i, 70), (200, 40, 250, 90)] for i in range(20)]
    boxes[8] = boxes[9] = boxes[8][:1]
    source = GivenFaces([[FaceObservation(box=box, score=1.0) for box in frame] for frame in boxes])
    first, second = find_people(np.zeros((20, 120, 300, 3), np.uint8), source=source)
    assert first.sightings().boxes.tolist() == [list(frame[0]) for frame in boxes]
    assert second.frames == tuple(i for i in range(20) if i not in (8, 9))


def test_a_crowd() -> None:
    """Many different faces side by side, drifting."""
    wall = cv2.resize(np.random.default_rng(0).integers(0, 255, (36, 60, 3), np.uint8), (600, 360))
    frames = np.stack([np.roll(wall, i, axis=1) for i in range(6)])
    spots = [(60 * x + 30, 110 * y + 10) for y in range(3) for x in range(9)]
    faces = [[FaceObservation(box=(x + i, y, x + i + 40, y + 50), score=1.0) for x, y in spots] for i in range(6)]
    people = find_people(frames, source=GivenFaces([frame[::-1] if i % 2 else frame for i, frame in enumerate(faces)]))
    assert len(people) == len(spots)
    for person, (x, y) in zip(people, sorted(spots), strict=True):
        assert person.sightings().boxes[:, :2].tolist() == [[x + i, y] for i in range(6)]


def test_only_frames_that_show_a_person_cost_memory(source: MeshLandmarks) -> None:
    frames, _ = leaving()
    person = next(person for person in find_people(frames, source=source) if len(person.frames) < 30)
    assert all(face.mesh is not None and face.mesh.base is None for face in person.faces), "no views of more"
    rows = person.sightings()
    assert len(rows) == len(frames) and tuple(np.flatnonzero(rows.seen)) == person.frames
    for i in range(-1, len(frames) + 1):
        face = person.at(i)
        assert (face is not None) == (i in person.frames)
        if face is not None:
            np.testing.assert_array_equal(rows.landmarks[i], face.landmarks)
    part = person.sightings(7)
    assert len(part) == 7 and len(person.sightings(99)) == len(frames)
    np.testing.assert_array_equal(part.scores, rows.scores[:7])


def test_where_shots_begin_is_kept_with_the_person() -> None:
    frames, truths = cut_and_swap(same_set=False)
    person = find_people(frames, source=given(truths))[0]
    assert person.cuts == (10,) and person.sightings().cuts == (10,) and person.sightings(10).cuts == ()
    assert all(person.cuts == () for person in find_people(frames, source=given(truths), still=True))


@pytest.mark.parametrize("seed", range(4))
def test_the_two_groups_most_alike_are_joined_first(seed: int) -> None:
    rng, picture = np.random.default_rng(seed), np.zeros((8, 8, 3), np.uint8)
    looks = rng.normal(size=(40, 5)).astype(np.float32)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    frames = rng.integers(0, 15, 40).tolist()
    box = FaceObservation(box=(0, 0, 4, 4), score=1.0)
    tracklets = [Tracklet(i, frames[i], picture, Seen(box, looks[i], 1.0)) for i in range(40)]
    found = group(tracklets, 1, 25.0)

    def alike(some: list[int], others: list[int]) -> float:
        at_once = {frames[i] for i in some} & {frames[i] for i in others}
        return -1.0 if at_once else float((looks[some] @ looks[others].T).mean())

    groups = [[i] for i in range(40)]
    while True:
        best, a, b = max((alike(groups[a], groups[b]), a, b) for a in range(len(groups)) for b in range(a))
        if best < 0.75:
            break
        groups[b] += groups.pop(a)
    assert 5 < len(groups) < 35
    assert sorted(sorted(t.shot for t in some) for some in found) == sorted(sorted(some) for some in groups)


def test_thousands_of_short_sightings_are_joined_in_a_few_seconds() -> None:
    """Every one begins a shot, as a clip cut to pieces gives them."""
    rng = np.random.default_rng(0)
    faces, picture = rng.normal(size=(30, 120)), np.zeros((8, 8, 3), np.uint8)
    tracklets = []
    for n in range(3000):
        for i in range(7):
            look = faces[n % 30] + 0.3 * rng.normal(size=120)
            look = (look / np.linalg.norm(look)).astype(np.float32)
            seen = Seen(FaceObservation(box=(0, 0, 4, 4), score=1.0), look, 1.0)
            if i:
                tracklets[-1].add(8 * n + i, picture, seen)
            else:
                tracklets.append(Tracklet(n, 8 * n, picture, seen))
    begun = time.process_time()
    groups = group(tracklets, 24000, 25.0)
    assert time.process_time() - begun < 15
    assert sorted(len(g) for g in groups) == [100] * 30
    assert all(len({t.shot % 30 for t in g}) == 1 for g in groups)


def test_nobody() -> None:
    assert find_people(np.zeros((3, 90, 160, 3), np.uint8), source=GivenFaces([[]])) == []


def test_count_progress_and_cancel() -> None:
    frames, truths = still_ones()
    steps: list[tuple[int, int]] = []
    people = find_people(frames, source=given(truths), count=4, progress=lambda *step: steps.append(step))
    assert steps == [(i, 4) for i in range(1, 5)]
    assert [person.length for person in people] == [4, 4]
    with pytest.raises(Cancelled, match="after 0 of 8 frames"):
        find_people(frames, source=given(truths), cancelled=lambda: True)


def test_bad_options_are_refused() -> None:
    frames, truths = still_ones()
    with pytest.raises(InputError, match="min_score is 2"):
        find_people(frames, source=given(truths), min_score=2)
    with pytest.raises(InputError, match="no frames"):
        find_people(frames[:0], source=given(truths))
    with pytest.raises(InputError, match="uint8"):
        find_people(frames.astype(np.float32), source=given(truths))
