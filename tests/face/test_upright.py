"""The upright picture: points and pixels turned there and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from musetalk.face.boxes import face_box, face_place, shift_range, turned_box
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh
from musetalk.face.track import FaceTrack
from musetalk.face.upright import (
    as_turn,
    bounds_in_picture,
    cut_upright,
    edges,
    lay_back,
    turn_points,
    turn_points_back,
    turns_of,
)
from musetalk.latents import crop_face


@pytest.fixture(scope="module")
def landmarks(mesh: FaceMesh, hopper: np.ndarray) -> np.ndarray:
    points, _ = mesh.landmarks(hopper, mesh.detect(hopper)[0].roi)
    return to_68(points).astype(np.float32)


def rolled(points: np.ndarray, degrees: float) -> np.ndarray:
    x, y, _ = turns_of(points[None])[0]
    return turn_points_back(points, (x, y, np.radians(degrees)))


def track_of(points: np.ndarray, turns: np.ndarray | None, size: tuple[int, int]) -> FaceTrack:
    turn = None if turns is None else as_turn(turns[0])
    box = face_box(points, size) if turn is None else turned_box(points, turn, size)
    one = np.ones(1, np.float32)
    return FaceTrack(np.array([box], np.int32), np.ones(1, bool), points[None], None, one, one, one, turns=turns)


@pytest.mark.parametrize("degrees", [-170, -90, -25, 0, 3, 60, 120])
def test_roll_is_measured_all_the_way_round(landmarks: np.ndarray, degrees: float) -> None:
    own = turns_of(landmarks[None])[0]
    turn = turns_of(rolled(landmarks, degrees)[None])[0]
    difference = np.degrees(turn[2] - own[2]) - degrees
    assert abs((difference + 180) % 360 - 180) < 1e-3
    np.testing.assert_allclose(turn[:2], own[:2], atol=1e-3)


def test_upright_eyes_are_level_and_points_come_back(landmarks: np.ndarray) -> None:
    tilted = rolled(landmarks, 40)
    turn = turns_of(tilted[None])[0]
    upright = turn_points(tilted, turn)
    assert abs(upright[36:42, 1].mean() - upright[42:48, 1].mean()) < 1e-3
    assert upright[8, 1] > upright[27, 1]
    np.testing.assert_allclose(turn_points_back(upright, turn), tilted, atol=1e-3)
    assert upright.dtype == np.float32


def test_a_turn_per_frame_equals_turns_one_by_one(landmarks: np.ndarray) -> None:
    clip = np.stack([rolled(landmarks, degrees) for degrees in (-20, 0, 35)])
    turns = turns_of(clip)
    alone = [turn_points(*pair) for pair in zip(clip, turns, strict=True)]
    np.testing.assert_array_equal(turn_points(clip, turns), alone)


def test_unknown_landmarks_have_no_turn(landmarks: np.ndarray) -> None:
    clip = np.stack([landmarks, landmarks])
    clip[1, 5] = np.nan
    turns = turns_of(clip)
    assert np.isfinite(turns[0]).all() and np.isnan(turns[1]).all()
    assert as_turn(turns[1]) is None and as_turn(turns[0]) == tuple(map(float, turns[0]))
    assert turns.dtype == np.float32 and turns.shape == (2, 3)


@pytest.mark.parametrize("degrees", [25, -110])
def test_a_turned_patch_comes_back_where_it_was(degrees: float) -> None:
    y, x = np.mgrid[:200, :240].astype(np.float32)
    picture = np.stack([x, y, (x + y) / 2], axis=-1)
    turn, box = (118.3, 95.7, float(np.radians(degrees))), (90, 60, 150, 140)
    region = bounds_in_picture(box, turn, (240, 200))
    back = lay_back(cut_upright(picture, box, turn), box, turn, region)
    inside = lay_back(np.ones((80, 60), np.float32), box, turn, region) == 1
    x0, y0, x1, y1 = region
    # OpenCV places samples to 1/32 px.
    np.testing.assert_allclose(back[inside], picture[y0:y1, x0:x1][inside], atol=0.07)
    assert inside.sum() > 0.9 * 60 * 80


def test_patch_and_points_agree(landmarks: np.ndarray, hopper: np.ndarray) -> None:
    turn = as_turn(turns_of(rolled(landmarks, 30)[None])[0])
    assert turn is not None
    picture = np.zeros((600, 512), np.uint8)
    cv2.circle(picture, (200, 250), 3, 255, cv2.FILLED)
    patch = cut_upright(picture, (50, 60, 450, 500), turn)
    found = np.argwhere(patch > 127).mean(axis=0)[::-1] + np.array([50, 60])
    np.testing.assert_allclose(found, turn_points(np.array([[200.0, 250.0]]), turn)[0], atol=0.2)


def test_no_angle_is_the_level_picture(landmarks: np.ndarray, hopper: np.ndarray) -> None:
    size, turn = (512, 600), (260.4, 210.6, 0.0)
    assert edges(size, turn) == edges(size, None) == (0, 0, 512, 600)
    box = turned_box(landmarks, turn, size)
    assert box == face_box(landmarks, size)
    np.testing.assert_array_equal(cut_upright(hopper, box, turn), hopper[box[1] : box[3], box[0] : box[2]])
    level, upright = crop_face(hopper, box).astype(int), crop_face(hopper, box, turn)
    assert np.abs(level - upright).mean() < 0.5


def test_a_tilted_head_gives_the_crop_of_the_upright_one(landmarks: np.ndarray, hopper: np.ndarray) -> None:
    x, y, roll = (float(value) for value in turns_of(landmarks[None])[0])

    def filmed(degrees: float) -> tuple[np.ndarray, np.ndarray]:
        """The portrait resampled with that much roll, and its landmarks."""
        matrix = cv2.getRotationMatrix2D((x, y), np.degrees(roll) - degrees, 1)
        points = (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return cv2.warpAffine(hopper, matrix, (512, 600), flags=cv2.INTER_CUBIC), points

    level, level_points = filmed(0)
    tilted, tilted_points = filmed(25)
    place = face_place(track_of(level_points, None, (512, 600)), 0, 10, (512, 600))
    turned = face_place(track_of(tilted_points, turns_of(tilted_points[None]), (512, 600)), 0, 10, (512, 600))
    assert turned.box == pytest.approx(place.box, abs=1) and turned.turn is not None
    difference = np.abs(crop_face(level, place.box).astype(int) - crop_face(tilted, place.box, turned.turn))
    assert difference.mean() < 2.5
    without = np.abs(crop_face(level, place.box).astype(int) - crop_face(tilted, place.box))
    assert without.mean() > 8 * difference.mean()


def test_the_useful_shift_is_measured_upright(landmarks: np.ndarray) -> None:
    size = (512, 600)
    x, y, roll = turns_of(landmarks[None])[0]
    upright = turn_points(landmarks, (x, y, roll))
    sideways = rolled(upright, 80)
    wanted = shift_range(track_of(upright, None, size))
    found = shift_range(track_of(sideways, turns_of(sideways[None]), size))
    assert wanted is not None and found is not None
    assert (found.up, found.down) == pytest.approx((wanted.up, wanted.down), abs=1)


def test_far_away_landmarks_do_not_make_a_huge_box(landmarks: np.ndarray) -> None:
    wild = landmarks.copy()
    wild[0], wild[8] = (-9e5, 200), (260, 9e5)
    box = turned_box(wild, (260.0, 200.0, 0.5), (512, 600))
    assert box is not None and max(box[2] - box[0], box[3] - box[1]) < 800
    assert turned_box(landmarks + 5000, (5260.0, 5200.0, 0.5), (512, 600)) is None
