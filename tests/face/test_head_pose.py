from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from musetalk.face.head_pose import head_pose
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.mesh_tracker import MeshTracker
from musetalk.face.tracking import track_faces


def mesh_of(mesh: FaceMesh, picture: np.ndarray) -> np.ndarray:
    found = MeshTracker(mesh, select="largest", min_score=0.5, fps=Fraction(25), still=True).step(picture)
    assert found is not None
    return found[0].astype(np.float64)


def turned(points: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """A mesh ``[468, 3]`` (z away from the camera), turned about its middle by the signs of ``head_pose``."""
    y, p, r = np.radians([-yaw, -pitch, roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    middle = points.mean(axis=0)
    return (points - middle) @ (about_z @ about_y @ about_x).T + middle


@pytest.mark.parametrize("name", ["hopper", "astronaut"])
def test_portraits_look_into_the_camera(request: pytest.FixtureRequest, mesh: FaceMesh, name: str) -> None:
    landmarks = to_68(mesh_of(mesh, request.getfixturevalue(name)))
    pose = head_pose(landmarks[None])
    assert pose.shape == (1, 3) and pose.dtype == np.float32
    assert (np.abs(pose) < 10).all()


@pytest.mark.parametrize("name", ["hopper", "astronaut"])
@pytest.mark.parametrize("yaw", [-70, -35, 0, 35, 70])
@pytest.mark.parametrize("pitch", [-40, 0, 40])
def test_a_head_turned_in_space(
    request: pytest.FixtureRequest, mesh: FaceMesh, name: str, yaw: float, pitch: float
) -> None:
    frontal = mesh_of(mesh, request.getfixturevalue(name))
    at_rest = head_pose(to_68(frontal)[None])[0]
    level = turned(frontal, 0, 0, -at_rest[2])
    # Yaw and pitch do not commute: undo the portrait's own first, as closely as it is known.
    level = turned(turned(level, -at_rest[0], 0, 0), 0, -at_rest[1], 0)
    for roll in (0, 50):
        pose = head_pose(to_68(turned(level, yaw, pitch, roll))[None])[0]
        np.testing.assert_allclose(pose, [yaw, pitch, roll], atol=6)


def test_signs_without_any_model(mesh: FaceMesh, hopper: np.ndarray) -> None:
    """The nose tip moves against the eyes towards where the face looks."""
    frontal = mesh_of(mesh, hopper)

    def nose(points: np.ndarray) -> np.ndarray:
        marks = to_68(points)
        return marks[30] - marks[[36, 45]].mean(axis=0)

    right, up = turned(frontal, 30, 0, 0), turned(frontal, 0, 30, 0)
    assert nose(right)[0] > nose(frontal)[0] + 10 and head_pose(to_68(right)[None])[0, 0] > 20
    assert nose(up)[1] < nose(frontal)[1] - 10 and head_pose(to_68(up)[None])[0, 1] > 10


@pytest.mark.parametrize("angle", [0, 15, 30, 45, 60, -30, -60])
def test_turning_the_picture_changes_roll_alone(mesh: FaceMesh, hopper: np.ndarray, angle: float) -> None:
    level = head_pose(to_68(mesh_of(mesh, hopper))[None])[0]
    clockwise = cv2.getRotationMatrix2D((263, 220), -angle, 1)
    rolled = cv2.warpAffine(hopper, clockwise, (512, 600))
    track = track_faces(rolled[None], source=MeshLandmarks(mesh))
    assert track.landmarks is not None and track.valid.all()
    np.testing.assert_allclose(head_pose(track.landmarks)[0] - level, [0, 0, angle], atol=3)
    exact = to_68(mesh_of(mesh, hopper)) @ clockwise[:, :2].T + clockwise[:, 2]
    np.testing.assert_allclose(head_pose(exact[None])[0] - level, [0, 0, angle], atol=0.01)


def test_an_open_mouth_a_blink_and_the_scale_change_nothing(mesh: FaceMesh, hopper: np.ndarray) -> None:
    landmarks = to_68(mesh_of(mesh, hopper))
    pose = head_pose(landmarks[None])
    other = landmarks.copy()
    other[[*range(4, 13), *range(48, 68)], 1] += 30
    other[[37, 38, 43, 44], 1] += 8
    other[17:27, 1] -= 10
    np.testing.assert_allclose(head_pose(other[None]), pose, atol=1e-3)
    np.testing.assert_allclose(head_pose(landmarks[None] * 7 + 300), pose, atol=1e-2)


def test_what_is_no_face_looks_nowhere(mesh: FaceMesh, hopper: np.ndarray) -> None:
    rows = np.repeat(to_68(mesh_of(mesh, hopper))[None], 5, axis=0)
    rows[1, 40] = np.nan  # not among the points that are used
    rows[2, 30] = np.nan
    rows[3] = 50
    rows[4, :, 1] = 50
    pose = head_pose(rows)
    assert np.isfinite(pose[:2]).all() and np.isnan(pose[2:]).all()
    np.testing.assert_array_equal(pose[0], pose[1])
    assert head_pose(np.zeros((0, 68, 2), np.float32)).shape == (0, 3)
