from __future__ import annotations

import cv2
import numpy as np
import pytest

from musetalk.face.appearance import describe, likeness, portrait, view_quality
from musetalk.face.boxes import face_box
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh
from musetalk.face.sources import FaceObservation

Faces = dict[str, tuple[np.ndarray, FaceObservation]]


@pytest.fixture(scope="module")
def faces(mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray) -> Faces:
    """Pictures of both people with their landmarks."""
    found: Faces = {}
    for name, picture, box in (("hopper", hopper, (170, 107, 357, 333)), ("astronaut", astronaut, (179, 60, 272, 176))):
        points = mesh.mesh_in_box(picture, box)
        assert points is not None
        found[name] = picture, FaceObservation(landmarks=to_68(points), score=1.0)
    return found


def turned(picture: np.ndarray, face: FaceObservation, scale: float, degrees: float) -> tuple:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    assert face.landmarks is not None
    points = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_AREA)
    return moved, FaceObservation(landmarks=points.astype(np.float32), score=1.0)


def test_two_people_are_unlike(faces: Faces) -> None:
    looks = np.stack([describe(*faces[name]) for name in ("hopper", "astronaut")])
    alike = likeness(looks, looks)
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-5)
    assert alike[0, 1] < 0.4


@pytest.mark.parametrize("name", ["hopper", "astronaut"])
@pytest.mark.parametrize(("scale", "degrees"), [(0.3, 0), (0.8, 25), (1.2, -40)])
def test_place_size_and_roll_do_not_matter(faces: Faces, name: str, scale: float, degrees: float) -> None:
    picture, face = faces[name]
    assert likeness(describe(picture, face), describe(*turned(picture, face, scale, degrees))) > 0.9


@pytest.mark.parametrize("name", ["hopper", "astronaut"])
def test_light_hardly_matters(faces: Faces, name: str) -> None:
    picture, face = faces[name]
    tint = np.array([0.9, 1.0, 1.1])
    for change in (picture * 0.5, picture * 0.6 + 70, picture * 0.8 * tint):
        other = np.clip(change, 0, 255).astype(np.uint8)
        assert likeness(describe(picture, face), describe(other, face)) > 0.85


@pytest.mark.parametrize("name", ["hopper", "astronaut"])
def test_a_box_serves_where_there_are_no_landmarks(faces: Faces, name: str) -> None:
    picture, face = faces[name]
    assert face.landmarks is not None
    box = face_box(face.landmarks, (picture.shape[1], picture.shape[0]))
    assert likeness(describe(picture, face), describe(picture, FaceObservation(box=box))) > 0.7


def test_what_shows_nothing_is_like_nobody() -> None:
    flat = np.full((50, 50, 3), 128, np.uint8)
    for face in (
        FaceObservation(landmarks=np.full((68, 2), 20, np.float32)),
        FaceObservation(box=(10, 10, 10, 30)),
        FaceObservation(box=(10, 10, 30, 30)),
    ):
        assert np.linalg.norm(describe(flat, face)) < 1e-3


def test_portraits_fit_and_stay_within_the_picture(faces: Faces) -> None:
    picture, face = faces["hopper"]
    assert max(portrait(picture, face).shape[:2]) == 256
    small = portrait(*turned(picture, face, 0.2, 0))
    assert max(small.shape[:2]) < 100
    for box in ((-40, -40, 20, 20), (480, 560, 560, 640), (600, 700, 640, 740)):
        assert portrait(picture, FaceObservation(box=box)).size


def test_a_large_whole_frontal_view_is_better(faces: Faces) -> None:
    picture, face = faces["hopper"]
    size = picture.shape[1], picture.shape[0]
    best = view_quality(face, size)
    assert view_quality(turned(picture, face, 0.5, 0)[1], size) < best
    assert face.landmarks is not None
    assert view_quality(FaceObservation(landmarks=face.landmarks - [250, 0], score=1.0), size) < best
    profile = face.landmarks.copy()
    profile[30] = profile[2]
    assert view_quality(FaceObservation(landmarks=profile, score=1.0), size) < best / 2
