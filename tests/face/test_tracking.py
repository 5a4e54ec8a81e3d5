from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest

from musetalk.errors import Cancelled, InputError
from musetalk.face import clip as clip_reading
from musetalk.face.given import GivenBoxes
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.sources import FaceObservation, TrackRequest
from musetalk.face.tracking import track_faces
from musetalk.profile import Profile

HOPPER, ASTRONAUT = (170, 107, 357, 333), (179, 60, 272, 176)


class Clip:
    """An array that behaves as a decoder does: forward only, at a rate of its own."""

    def __init__(self, frames: np.ndarray, fps: Fraction = Fraction(25)) -> None:
        self._frames, self.fps, self.read = frames, fps, 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, part: slice) -> np.ndarray:
        assert part.start == self.read, "frames must be read in order, once"
        self.read = part.stop
        return self._frames[part]


@pytest.fixture
def source(mesh: FaceMesh) -> MeshLandmarks:
    return MeshLandmarks(mesh)


def drifting(picture: np.ndarray, frames: int) -> np.ndarray:
    """The picture moving 3 px right and 2 px down per frame."""
    return np.stack([np.roll(picture, (2 * i, 3 * i), axis=(0, 1)) for i in range(frames)])


def without(picture: np.ndarray, columns: slice) -> np.ndarray:
    blank = picture.copy()
    blank[:, columns] = 0
    return blank


@pytest.mark.parametrize(("name", "box"), [("hopper", HOPPER), ("astronaut", ASTRONAUT)])
def test_portraits(request: pytest.FixtureRequest, source: MeshLandmarks, name: str, box: tuple) -> None:
    track = track_faces(request.getfixturevalue(name)[None], source=source)
    np.testing.assert_allclose(track.boxes[0], box, atol=2)
    assert track.boxes.dtype == np.int32
    assert track.landmarks is not None and track.landmarks.shape == (1, 68, 2)
    assert track.mesh is not None and track.mesh.shape == (1, 468, 2)
    assert track.scores[0] > 0.99


def test_the_box_moves_with_the_face_and_blank_frames_stay_in_place(hopper: np.ndarray, source: MeshLandmarks) -> None:
    frames = drifting(hopper, 25)
    frames[10:20] = 0
    track = track_faces(frames, source=source)
    assert np.flatnonzero(~track.valid).tolist() == list(range(10, 20))
    assert not track.boxes[10:20].any()
    assert track.landmarks is not None
    assert np.isnan(track.landmarks[10:20]).all()
    seen = np.flatnonzero(track.valid)
    wanted = np.array(HOPPER) + np.outer(seen, [3, 2, 3, 2])
    np.testing.assert_allclose(track.boxes[seen], wanted, atol=5)


def test_a_clip_without_faces_has_no_valid_frame(source: MeshLandmarks) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 240, 320, 3), np.uint8)
    track = track_faces(noise, source=source)
    assert len(track) == 2
    assert not track.valid.any()
    assert track.landmarks is None


@pytest.mark.parametrize(
    ("select", "columns"), [("largest", (512, 1024)), ((225, 120), (0, 512)), ((800, 250), (512, 1024))]
)
def test_selection(two_people: np.ndarray, source: MeshLandmarks, select: tuple, columns: tuple[int, int]) -> None:
    x0, _, x1, _ = track_faces(two_people[None], source=source, select=select).boxes[0]
    assert columns[0] < x0 < x1 < columns[1]


@pytest.mark.parametrize(("select", "lost"), [("largest", slice(512, 1024)), ((225, 120), slice(0, 512))])
def test_a_briefly_lost_face_is_not_exchanged(
    two_people: np.ndarray, source: MeshLandmarks, select: tuple, lost: slice
) -> None:
    frames = np.stack([two_people] * 2 + [without(two_people, lost)] * 8 + [two_people] * 2)
    track = track_faces(frames, source=source, select=select)
    assert track.valid.tolist() == [True] * 2 + [False] * 8 + [True] * 2
    np.testing.assert_allclose(track.boxes[10:], track.boxes[:2], atol=4)


@pytest.mark.parametrize("margin", [20, 0, -20])
def test_a_lost_face_is_not_exchanged_for_one_cheek_to_cheek(
    hopper: np.ndarray, source: MeshLandmarks, margin: int
) -> None:
    left, right = hopper[60:400, 130 : 357 + margin], hopper[60:400, 170 - margin : 397]
    pair = cv2.copyMakeBorder(np.concatenate([left, right], axis=1), 99, 99, 99, 99, cv2.BORDER_CONSTANT)
    frames = np.stack([pair] * 2 + [without(pair, slice(99, 99 + left.shape[1]))] * 4 + [pair])
    track = track_faces(frames, source=source, select=(230, 280))
    assert track.valid.tolist() == [True] * 2 + [False] * 4 + [True]


@pytest.mark.parametrize("zoom", [0.55, 0.7, 1.5, 1.8])
def test_a_punch_in_cut_is_right_from_its_first_frame(hopper: np.ndarray, source: MeshLandmarks, zoom: float) -> None:
    around_face = np.array([[zoom, 0, (1 - zoom) * 263], [0, zoom, (1 - zoom) * 220]])
    closer = cv2.warpAffine(hopper, around_face, (512, 600))
    alone = track_faces(closer[None], source=source)
    track = track_faces(np.stack([hopper, closer]), source=source)
    np.testing.assert_allclose(track.boxes[1], alone.boxes[0], atol=5)


@pytest.mark.parametrize(("fps", "missed"), [(Fraction(25), 25), (Fraction(5), 5)])
def test_after_a_second_another_face_is_taken(
    two_people: np.ndarray, source: MeshLandmarks, fps: Fraction, missed: int
) -> None:
    frames = np.stack([two_people] + [without(two_people, slice(512, 1024))] * (missed + 1))
    track = track_faces(Clip(frames, fps), source=source)
    assert np.flatnonzero(~track.valid).tolist() == list(range(1, missed + 1))
    assert track.boxes[-1, 2] < 512


def test_a_face_at_the_border_gets_a_box_inside_the_frame(hopper: np.ndarray, source: MeshLandmarks) -> None:
    cut = np.ascontiguousarray(hopper[:, 220:])
    assert track_faces(cut[None], source=source).boxes[0, 0] == 0
    assert not track_faces(cut[None], source=source, profile=Profile(parity=True)).valid.any()


@pytest.mark.parametrize("part", [0.12, 0.08, 0.06])
@pytest.mark.parametrize("place", [(10, 10), (700, 100), (400, 300)])
def test_small_faces_are_found(hopper: np.ndarray, source: MeshLandmarks, part: float, place: tuple[int, int]) -> None:
    picture = np.full((700, 1000, 3), 60, np.uint8)
    scale = part * 1000 / 187
    small = cv2.resize(hopper, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y = place
    small = small[: 700 - y, : 1000 - x]
    picture[y : y + small.shape[0], x : x + small.shape[1]] = small
    box = track_faces(picture[None], source=source).boxes[0]
    np.testing.assert_allclose(box, np.array(HOPPER) * scale + [x, y, x, y], atol=0.08 * part * 1000)


def test_a_rolled_head(hopper: np.ndarray, source: MeshLandmarks) -> None:
    turn = cv2.getRotationMatrix2D((256, 220), 30, 1)
    rolled = cv2.warpAffine(hopper, turn, (512, 600))
    level = track_faces(hopper[None], source=source).landmarks
    found = track_faces(rolled[None], source=source).landmarks
    assert level is not None and found is not None
    assert np.abs(found[0] - (level[0] @ turn[:, :2].T + turn[:, 2])).mean() < 0.01 * 187


def test_stills_are_looked_at_one_by_one(hopper: np.ndarray, two_people: np.ndarray, source: MeshLandmarks) -> None:
    left = without(two_people, slice(512, 1024))
    track = track_faces(np.stack([two_people, left, two_people]), source=source, still=True)
    assert track.valid.all()
    assert track.boxes[1, 2] < 512 < track.boxes[0, 0]
    np.testing.assert_array_equal(track.boxes[0], track.boxes[2])


def test_chunked_reading_changes_nothing(
    hopper: np.ndarray, source: MeshLandmarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = drifting(hopper, 5)
    whole = track_faces(frames, source=source)
    monkeypatch.setattr(clip_reading, "_CHUNK_BYTES", frames[0].nbytes * 2)
    clip = Clip(frames)
    chunked = track_faces(clip, source=source, count=4)
    assert clip.read == 4
    assert len(chunked) == 4
    np.testing.assert_array_equal(chunked.boxes, whole.boxes[:4])
    np.testing.assert_array_equal(chunked.mesh, whole.mesh[:4])


def test_a_source_may_give_landmarks_and_a_box_to_fall_back_on(hopper: np.ndarray) -> None:
    class Flat:
        name = "flat"

        def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
            for _ in frames:
                yield FaceObservation(landmarks=np.full((68, 2), 50, np.float32), box=(10, 10, 90, 90), score=0.7)

    assert track_faces(hopper[None], source=Flat(), profile=Profile(bbox_shift=5)).boxes.tolist() == [[10, 10, 90, 90]]


def test_progress_and_cancelling() -> None:
    frames = np.zeros((5, 40, 40, 3), np.uint8)
    seen: list[tuple[int, int]] = []
    given = GivenBoxes([1, 2, 30, 32])
    track_faces(frames, source=given, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]
    with pytest.raises(Cancelled, match="after 2 of 5"):
        track_faces(frames, source=given, cancelled=iter([False, False, True]).__next__)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (np.zeros((0, 40, 40, 3), np.uint8), {}, "no frames"),
        (np.zeros((2, 40, 40, 3), np.uint8), {"count": 0}, "at least one"),
        (np.zeros((2, 40, 40, 3), np.float32), {}, "uint8"),
        (np.zeros((2, 40, 40, 4), np.uint8), {}, "uint8"),
        (np.zeros((2, 40, 40, 3), np.uint8), {"min_score": 0}, "min_score"),
        (np.zeros((2, 40, 40, 3), np.uint8), {"select": "smallest"}, "smallest"),
        (np.zeros((2, 40, 40, 3), np.uint8), {"select": (50, 10)}, "40x40"),
        (np.zeros((2, 40, 40, 3), np.uint8), {"select": (float("nan"), 10)}, "40x40"),
    ],
)
def test_unusable_input_is_refused(frames: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        track_faces(frames, **options)
