"""Faces that other nodes found."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Part = Callable[[str], ModuleType]
SIZE = (400, 200)


@pytest.fixture
def faces(part: Part) -> Any:
    return part("nodes.faces")


def face_at(x: float, y: float, size: float = 40, points: int = 478) -> dict[str, Any]:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return {"landmarks_xy": (circle * size / 2 + (x, y)).astype(np.float32)}


def landmarks(*frames: list[dict[str, Any]]) -> dict[str, Any]:
    return {"frames": list(frames), "image_size": SIZE[::-1]}


def person_at(x: float, y: float, *, points: int = 70, confidence: float = 0.9) -> dict[str, Any]:
    places = face_at(x, y, points=points)["landmarks_xy"]
    flat = np.column_stack([places, np.full(points, confidence)]).ravel().tolist()
    return {"pose_keypoints_2d": [0.0] * 54, "face_keypoints_2d": flat}


def pose(*people: dict[str, Any], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    return {"people": list(people), "canvas_width": size[0], "canvas_height": size[1]}


def centres(frame: Any) -> list[tuple[int, int]]:
    return [tuple((face.landmarks.min(axis=0) + face.landmarks.max(axis=0)).round() // 2) for face in frame]


def request(part: Part, frames: int, select: Any = "largest") -> Any:
    from fractions import Fraction

    return part("musetalk.face.sources").TrackRequest(
        total=frames, count=frames, size=SIZE, fps=Fraction(25), select=select, min_score=0.5, still=False
    )


def test_every_face_of_every_frame_is_kept_with_its_mesh(faces: Any) -> None:
    clip = landmarks([face_at(100, 100, 40), face_at(300, 100, 60)], [], [face_at(110, 100, 80)])
    read = faces.landmark_faces(clip, SIZE)
    assert [len(frame) for frame in read] == [2, 0, 1]
    assert read[0][0].mesh.shape == (468, 2) and read[0][0].landmarks.shape == (68, 2)
    assert np.array_equal(read[0][1].mesh, clip["frames"][0][1]["landmarks_xy"][:468])
    assert abs(read[0][1].landmarks.mean(axis=0) - (300, 100)).max() < 20


def test_the_engine_follows_the_selected_one(part: Part, faces: Any) -> None:
    clip = landmarks([face_at(100, 100, 40), face_at(300, 100, 60)], [], [face_at(290, 100, 30), face_at(110, 100, 80)])
    source = faces.given_faces(SIZE, landmarks=clip)
    for select, place in (("largest", 290), ((90.0, 90.0), 110)):
        followed = list(source.observe(iter(()), request(part, 3, select)))
        assert followed[1].landmarks is None
        assert abs(followed[2].mesh[:, 0].mean() - place) < 20  # the same person, whoever is larger then


def test_landmarks_found_at_another_size_are_scaled(faces: Any) -> None:
    clip = landmarks([face_at(100, 100)])
    small, large = (faces.landmark_faces(clip, size)[0][0].landmarks for size in (SIZE, (800, 400)))
    assert np.allclose(large, 2 * small)
    parts = {**clip, "frames": [[{"landmarks_xy": clip["frames"][0][0]["landmarks_xy"] / SIZE}]]}
    assert np.allclose(faces.landmark_faces(parts, SIZE)[0][0].landmarks, small, atol=1e-3)


def test_sixty_eight_points_are_taken_as_they_are(faces: Any) -> None:
    face = face_at(100, 100, points=68)
    (read,) = faces.landmark_faces(landmarks([face]), SIZE)[0]
    assert np.array_equal(read.landmarks, face["landmarks_xy"]) and read.mesh is None


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"frames": []},
        {"frames": [None]},
        {"frames": [[{"landmarks_xy": np.zeros((5, 2))}]]},
        {"frames": [[{}]]},
        {"frames": [[{"landmarks_xy": np.full((478, 2), np.nan)}]]},
        {"frames": [[{"landmarks_xy": np.full((478, 2), 1e9)}]]},
        {"frames": [[]], "image_size": (0, 0)},
        {"frames": [[]], "image_size": "large"},
    ],
)
def test_other_landmarks_are_refused(part: Part, faces: Any, bad: Any) -> None:
    with pytest.raises(part("musetalk.errors").InputError, match="landmarks input"):
        faces.given_faces(SIZE, landmarks=bad)


@pytest.mark.parametrize("points", [68, 70])
@pytest.mark.parametrize("as_list", [True, False])
def test_face_points_of_a_pose(faces: Any, points: int, as_list: bool) -> None:
    frame = pose(person_at(100, 100, points=points), person_at(300, 80, points=points))
    read = faces.pose_faces([frame] if as_list else frame, SIZE)
    assert [centres(frame) for frame in read] == [[(100, 100), (300, 80)]]
    assert read[0][0].landmarks.shape == (68, 2)


def test_poses_of_another_canvas_and_in_parts_of_it(faces: Any) -> None:
    person = person_at(100, 100)
    (read,) = faces.pose_faces([pose(person, size=(200, 400))], SIZE)
    assert centres(read) == [(200, 50)]
    values = np.array(person["face_keypoints_2d"]).reshape(-1, 3) / (*SIZE, 1)
    (read,) = faces.pose_faces([pose({"face_keypoints_2d": values.ravel().tolist()})], SIZE)
    assert centres(read) == [(100, 100)]


def test_people_whose_face_is_not_seen_are_left_out(faces: Any) -> None:
    hidden = person_at(100, 100)
    hidden["face_keypoints_2d"][3:6] = [0.0, 0.0, 0.0]  # the second point was not found
    eyeless = person_at(300, 100)
    eyeless["face_keypoints_2d"][-3:] = [0.0, 0.0, 0.0]  # only a pupil is missing
    people = [{"face_keypoints_2d": None}, {}, {"face_keypoints_2d": []}, hidden, person_at(50, 50, confidence=0.1)]
    assert [centres(frame) for frame in faces.pose_faces([pose(*people, eyeless), pose()], SIZE)] == [[(300, 100)], []]


@pytest.mark.parametrize(
    "bad",
    [
        [],
        "pose",
        [None],
        [{"animals": [], "canvas_width": 4, "canvas_height": 4}],
        [{"people": []}],
        [{"people": [], "canvas_width": float("nan"), "canvas_height": 4}],
        [pose(None)],  # type: ignore[arg-type]
        [pose({"face_keypoints_2d": [1.0] * 12})],
        [pose({"face_keypoints_2d": ["x"] * 204})],
        [pose({"face_keypoints_2d": [float("inf")] * 204})],
    ],
)
def test_other_poses_are_refused(part: Part, faces: Any, bad: Any) -> None:
    with pytest.raises(part("musetalk.errors").InputError, match="pose_keypoints input"):
        faces.given_faces(SIZE, pose_keypoints=bad)


BOX = {"x": 10, "y": 20, "width": 30, "height": 40}


@pytest.mark.parametrize("layout", [BOX, [BOX], [[BOX]]])
def test_one_box_in_any_layout(part: Part, faces: Any, layout: Any) -> None:
    source = faces.given_faces(SIZE, boxes=layout)
    assert [face.box for face in source.observe(iter(()), request(part, 3))] == [(10, 20, 40, 60)] * 3


def test_boxes_per_frame_keep_frames_without_one(faces: Any) -> None:
    read = faces.box_faces([[BOX, {**BOX, "x": 90}], [], [{**BOX, "x": 12.7}]])
    assert [[face.box[0] for face in frame] for frame in read] == [[10, 90], [], [12]]


@pytest.mark.parametrize("bad", [[], "box", [[{"x": 1}]], [None], {**BOX, "width": 0}, {**BOX, "x": float("nan")}])
def test_other_boxes_are_refused(part: Part, faces: Any, bad: Any) -> None:
    with pytest.raises(part("musetalk.errors").InputError, match="boxes input"):
        faces.given_faces(SIZE, boxes=bad)


def test_only_one_of_them_says_where_the_faces_are(part: Part, faces: Any) -> None:
    assert faces.given_faces(SIZE) is None
    with pytest.raises(part("musetalk.errors").InputError, match="boxes and pose_keypoints all say"):
        faces.given_faces(SIZE, boxes=BOX, pose_keypoints=pose())
