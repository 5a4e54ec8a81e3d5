"""Every face of a picture or a clip with the built-in networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from musetalk.face import mesh_crowd
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_crowd import observe_crowd
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.sources import FaceObservation, TrackRequest
from musetalk.video.frames import FrameSource

HOPPER_CENTRE, HOPPER_WIDTH = (263, 220), 187


def request(frames: Iterable[np.ndarray], *, still: bool = False, fps: int = 25) -> TrackRequest:
    frames = list(frames)
    height, width = frames[0].shape[:2]
    return TrackRequest(
        total=len(frames),
        count=len(frames),
        size=(width, height),
        fps=Fraction(fps),
        select="largest",
        min_score=0.5,
        still=still,
    )


def crowd(mesh: FaceMesh, frames: list[np.ndarray], **options: object) -> list[list[FaceObservation]]:
    return list(observe_crowd(mesh, iter(frames), request(frames, **options)))  # type: ignore[arg-type]


def centres(faces: Iterable[FaceObservation]) -> np.ndarray:
    """``[N, 2]``, from left to right."""
    return np.array(sorted(face.mesh.mean(axis=0).tolist() for face in faces))  # type: ignore[union-attr]


def group(hopper: np.ndarray, astronaut: np.ndarray, columns: int, rows: int, height: int) -> np.ndarray:
    """A grid of heads on grey: uint8 ``[rows * height * 1.2, columns * height * 1.2, 3]``."""
    cell = round(height * 1.2)
    picture = np.full((rows * cell, columns * cell, 3), 90, np.uint8)
    heads = [
        cv2.resize(head, (round(height * 0.85), height), interpolation=cv2.INTER_AREA)
        for head in (hopper[60:400, 120:400], astronaut[20:220, 130:300])
    ]
    for i in range(columns * rows):
        head, y, x = heads[i % 2], i // columns * cell, i % columns * cell
        picture[y : y + head.shape[0], x : x + head.shape[1]] = head
    return picture


def rolled(picture: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Grace Hopper rolled about her nose in an 800x800 picture, and the matrix ``[2, 3]`` that does it."""
    turn = cv2.getRotationMatrix2D(HOPPER_CENTRE, degrees, 1)
    turn[:, 2] += 400 - np.array(HOPPER_CENTRE)
    return cv2.warpAffine(picture, turn, (800, 800)), turn


@pytest.mark.parametrize("still", [True, False])
def test_both_people_are_seen_in_every_frame(mesh: FaceMesh, two_people: np.ndarray, still: bool) -> None:
    frames = [np.roll(two_people, 3 * i, axis=1) for i in range(5)]
    for i, faces in enumerate(crowd(mesh, frames, still=still)):
        np.testing.assert_allclose(centres(faces), [[224 + 3 * i, 124], [778 + 3 * i, 232]], atol=4)
        assert all(face.score > 0.99 for face in faces)
        for face in faces:
            assert face.landmarks is not None and face.landmarks.shape == (68, 2)
            assert face.mesh is not None and face.mesh.shape == (468, 2) and face.mesh.dtype == np.float32


def test_points_are_those_of_the_source_that_follows_one_face(mesh: FaceMesh, hopper: np.ndarray) -> None:
    frames = [np.roll(hopper, 2 * i, axis=1) for i in range(8)]
    alone = MeshLandmarks(mesh).observe(iter(frames), request(frames))
    for (face,), single in zip(crowd(mesh, frames), alone, strict=True):
        assert face.mesh is not None and single.mesh is not None
        assert np.abs(face.mesh - single.mesh).mean() < 0.01 * HOPPER_WIDTH


def test_a_still_face_stands_still(mesh: FaceMesh, two_people: np.ndarray) -> None:
    seen = np.stack([centres(faces) for faces in crowd(mesh, [two_people] * 20)])
    assert np.ptp(seen, axis=0).max() < 0.005 * HOPPER_WIDTH


def test_stills_know_nothing_of_each_other(mesh: FaceMesh, two_people: np.ndarray, hopper: np.ndarray) -> None:
    other = np.zeros_like(two_people)
    other[:, 256:768] = hopper
    first, second, third = crowd(mesh, [two_people, other, two_people], still=True)
    assert (len(first), len(second)) == (2, 1)
    np.testing.assert_array_equal([face.mesh for face in first], [face.mesh for face in third])


def test_thirty_faces_each_once(mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray) -> None:
    picture = group(hopper, astronaut, 6, 5, 150)
    counts = [len(faces) for faces in crowd(mesh, [picture, np.roll(picture, 4, axis=1)])]
    assert counts == [30, 30]


def test_of_too_many_faces_the_largest_are_kept(
    mesh: FaceMesh, two_people: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_crowd, "MOST_FACES", 1)
    for faces in crowd(mesh, [two_people] * 2):
        assert len(faces) == 1
        assert centres(faces)[0, 0] > 512


def test_a_newcomer_is_seen_at_once_when_large_and_within_half_a_second_when_small(
    mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray
) -> None:
    alone = np.zeros((700, 1400, 3), np.uint8)
    alone[:600, :512] = hopper
    large, small = alone.copy(), alone.copy()
    large[100:600, 800:1225] = cv2.resize(astronaut[20:220, 130:300], (425, 500))
    small[200:584, 900:1284] = cv2.resize(astronaut, (384, 384), interpolation=cv2.INTER_AREA)  # face: 5% of 1400
    fps = 10
    assert [len(faces) for faces in crowd(mesh, [alone, large], fps=fps)] == [1, 2]
    counts = [len(faces) for faces in crowd(mesh, [alone] + [small] * 5, fps=fps)]
    assert counts[0] == 1 and counts[-1] == 2


def test_after_a_cut_all_faces_are_those_of_the_new_scene(
    mesh: FaceMesh, two_people: np.ndarray, hopper: np.ndarray, astronaut: np.ndarray
) -> None:
    picture = group(hopper, astronaut, 4, 2, 250)
    canvas = np.zeros((600, 1200, 3), np.uint8)
    before = canvas.copy()
    before[:, :1024] = two_people
    counts = [len(faces) for faces in crowd(mesh, [before, before, picture, picture, before, canvas, picture])]
    assert counts == [2, 2, 8, 8, 2, 0, 8]


def test_a_face_lost_for_some_frames_comes_back(mesh: FaceMesh, two_people: np.ndarray) -> None:
    covered = two_people.copy()
    covered[40:200, 150:300] = 128
    counts = [len(faces) for faces in crowd(mesh, [two_people] * 2 + [covered] * 3 + [two_people] * 2)]
    assert counts == [2, 2, 1, 1, 1, 2, 2]


def heads_crossing(hopper: np.ndarray, astronaut: np.ndarray, frames: int, step: int) -> Iterator[np.ndarray]:
    """Two heads of about the same size; the one from the right passes in front."""
    heads = []
    for crop in (hopper[60:360, 130:400], astronaut[20:200, 150:300]):
        head = cv2.resize(crop, (216, 240), interpolation=cv2.INTER_AREA)
        mask = np.zeros(head.shape, np.uint8)
        cv2.ellipse(mask, (108, 120), (106, 118), 0, 0, 360, (1, 1, 1), -1)
        heads.append((head, mask > 0))
    for i in range(frames):
        picture = np.full((400, 900, 3), 110, np.uint8)
        for (head, mask), x in zip(heads, (200 + step * i, 480 - step * i), strict=True):
            picture[80:320, x : x + 216][mask] = head[mask]
        yield picture


def test_two_who_cross_are_one_face_while_one_hides_the_other(
    mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray
) -> None:
    frames = list(heads_crossing(hopper, astronaut, 24, 12))
    seen = crowd(mesh, frames)
    counts = [len(faces) for faces in seen]
    assert counts[:5] == counts[-5:] == [2] * 5
    assert counts[11:13] == [1, 1]
    for i, faces in enumerate(seen):
        heads = np.array([200 + 12 * i + 108, 480 - 12 * i + 108])
        for face in faces:
            assert face.mesh is not None
            assert np.abs(face.mesh[:, 0].mean() - heads).min() < 45


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 135, 180, 270])
def test_a_rolled_head_is_found_by_both_paths(mesh: FaceMesh, hopper: np.ndarray, degrees: int) -> None:
    (level,) = crowd(mesh, [hopper], still=True)[0]
    picture, turn = rolled(hopper, degrees)
    assert level.mesh is not None
    wanted = level.mesh @ turn[:, :2].T + turn[:, 2]
    (face,) = crowd(mesh, [picture])[0]
    (single,) = MeshLandmarks(mesh).observe(iter([picture]), request([picture]))
    for found in (face, single):
        assert found.mesh is not None
        assert np.linalg.norm(found.mesh - wanted, axis=1).mean() < 0.02 * HOPPER_WIDTH


def test_a_head_that_turns_upside_down_is_followed(mesh: FaceMesh, hopper: np.ndarray) -> None:
    frames = [rolled(hopper, degrees)[0] for degrees in range(0, 190, 10)]
    assert [len(faces) for faces in crowd(mesh, frames)] == [1] * len(frames)
    assert all(face.mesh is not None for face in MeshLandmarks(mesh).observe(iter(frames), request(frames)))


def test_a_rolled_head_beside_an_upright_one(mesh: FaceMesh, two_people: np.ndarray, astronaut: np.ndarray) -> None:
    picture = two_people.copy()
    picture[:512, :512] = np.rot90(astronaut)
    assert len(crowd(mesh, [picture])[0]) == 2


def test_the_real_clip_is_seen_throughout(mesh: FaceMesh, shared: Path) -> None:
    source = FrameSource.open(shared / "data" / "sun.mp4")
    frames = list(source[0:60])[::3]
    assert [len(faces) for faces in crowd(mesh, frames)] == [1] * len(frames)
    assert [len(faces) for faces in crowd(mesh, frames[::5], still=True)] == [1] * 4
    assert all(face.mesh is not None for face in MeshLandmarks(mesh).observe(iter(frames), request(frames)))
