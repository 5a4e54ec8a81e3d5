from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.face.face_file import load_face_file
from musetalk.face.given import GivenBoxes, GivenLandmarks
from musetalk.face.sources import LandmarkSource
from musetalk.face.tracking import track_faces
from musetalk.profile import Profile

BOX = [10, 20, 60, 80]
LANDMARKS = np.stack([np.linspace(10, 60, 68), np.linspace(20, 80, 68)], axis=1)


@pytest.fixture
def clip() -> np.ndarray:
    return np.zeros((4, 100, 120, 3), np.uint8)


def test_boxes_are_used_as_they_are(clip: np.ndarray) -> None:
    track = track_faces(clip, source=GivenBoxes([BOX, [0, 0, 0, 0], [np.nan] * 4, [90, 70, 130, 120]]))
    assert track.valid.tolist() == [True, False, False, True]
    assert track.boxes.tolist() == [BOX, [0] * 4, [0] * 4, [90, 70, 120, 100]]
    assert track.scores.tolist() == [1, 0, 0, 1]
    assert track.landmarks is None
    assert track.mesh is None


@pytest.mark.parametrize("one", [BOX, [BOX]])
def test_one_box_serves_every_frame(clip: np.ndarray, one: list) -> None:
    assert track_faces(clip, source=GivenBoxes(one)).boxes.tolist() == [BOX] * 4


def test_boxes_for_the_whole_clip_or_for_the_wanted_part(clip: np.ndarray) -> None:
    for rows in (2, 4):
        assert len(track_faces(clip, source=GivenBoxes([BOX] * rows), count=2)) == 2


def test_given_boxes_decode_no_frames_but_the_first() -> None:
    class Clip:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, part: slice) -> np.ndarray:
            assert (part.start, part.stop) == (0, 1)
            return np.zeros((1, 100, 120, 3), np.uint8)

    assert track_faces(Clip(), source=GivenBoxes(BOX)).valid.all()


def test_a_shift_moves_given_boxes_too(clip: np.ndarray) -> None:
    assert track_faces(clip, source=GivenBoxes(BOX), profile=Profile(bbox_shift=-3)).boxes[0].tolist() == [
        10,
        14,
        60,
        80,
    ]


def test_landmarks_go_through_the_box_rule(clip: np.ndarray) -> None:
    rows = np.stack([LANDMARKS, np.full_like(LANDMARKS, np.nan), np.zeros_like(LANDMARKS), LANDMARKS + 5])
    track = track_faces(clip, source=GivenLandmarks(rows))
    assert track.valid.tolist() == [True, False, False, True]
    middle = int(LANDMARKS[29, 1])
    assert track.boxes[0].tolist() == [10, 2 * middle - 80, 60, 80]
    assert track.landmarks is not None
    np.testing.assert_allclose(track.landmarks[3], LANDMARKS + 5)
    assert np.isnan(track.landmarks[1:3]).all()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([BOX] * 3, "3 rows for 4 frames"),
        ([BOX, [1, 2, np.nan, 4], BOX, BOX], "row 1"),
        ([BOX, [1, 2, np.inf, 4], BOX, BOX], "row 1"),
        ([BOX, BOX, [1, 2, 1e300, 4], BOX], "row 2"),
        ([BOX, [200, 20, 260, 80], BOX, BOX], "row 1 is 200 20 260 80, outside the 120x100 picture"),
        ([BOX, BOX, [60, 20, 10, 80], BOX], "row 2 is 60 20 10 80"),
        ([[0.1, 0.2, 0.5, 0.8]], "within 0..1"),
        ([[1, 2, 3]], "shape"),
        ([], "shape"),
        ([[1, 2], [3]], "not numbers"),
        (["face"], "not numbers"),
    ],
)
def test_hostile_boxes_are_refused(clip: np.ndarray, boxes: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        track_faces(clip, source=GivenBoxes(boxes))


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.stack([LANDMARKS] * 3), "3 rows for 4 frames"),
        (np.where(np.arange(68)[:, None] == 5, np.nan, LANDMARKS), "row 0"),
        (LANDMARKS / 1000, "within 0..1"),
        (LANDMARKS[:60], "shape"),
        (LANDMARKS * 1e12, "row 0"),
    ],
)
def test_hostile_landmarks_are_refused(clip: np.ndarray, landmarks: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        track_faces(clip, source=GivenLandmarks(landmarks))


def _write(path: Path, content: object) -> Path:
    if path.suffix == ".json":
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    elif path.suffix == ".npz":
        np.savez(path, **content)  # type: ignore[arg-type]
    else:
        np.save(path, content)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("f.json", [BOX, None, BOX, BOX], GivenBoxes),
        ("f.json", {"boxes": [BOX, None, BOX, BOX]}, GivenBoxes),
        (
            "f.json",
            {"landmarks": [LANDMARKS.tolist(), None, LANDMARKS.tolist(), LANDMARKS.tolist()]},
            GivenLandmarks,
        ),
        ("f.npz", {"boxes": np.array([BOX, [0] * 4, BOX, BOX])}, GivenBoxes),
        ("f.npy", np.array([BOX, [0] * 4, BOX, BOX]), GivenBoxes),
        ("f.npy", np.stack([LANDMARKS, LANDMARKS * 0, LANDMARKS, LANDMARKS]), GivenLandmarks),
    ],
)
def test_face_files(clip: np.ndarray, tmp_path: Path, name: str, content: object, kind: type) -> None:
    source: LandmarkSource = load_face_file(_write(tmp_path / name, content))
    assert isinstance(source, kind)
    assert track_faces(clip, source=source).valid.tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.txt", "", "json"),
        ("f.json", "{", "f.json"),
        ("f.json", "[" * 100_000, "f.json"),
        ("f.json", {"faces": []}, "has \\['faces'\\]"),
        ("f.json", {"boxes": [BOX], "landmarks": [None]}, "one of"),
        ("f.json", {"boxes": "all"}, "expected a list"),
        ("f.json", 3, "expected a list"),
        ("f.npy", np.array([{"a": 1}]), "f.npy"),
        ("f.npy", np.float64(3), "shape"),
    ],
)
def test_hostile_face_files_are_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = tmp_path / name
    if name == "f.txt":
        path.write_text("")
    else:
        _write(path, content)
    with pytest.raises(InputError, match=message):
        load_face_file(path)


@pytest.mark.parametrize("name", ["gone.json", "gone.npz", "broken.npz", "broken.npy", "latin.json"])
def test_unreadable_face_files_are_refused(tmp_path: Path, name: str) -> None:
    if "gone" not in name:
        (tmp_path / name).write_bytes(b"PK\x03\x04\xff\xfe not an archive")
    with pytest.raises(InputError, match=name):
        load_face_file(tmp_path / name)
