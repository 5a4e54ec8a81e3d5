"""Faces that other nodes found."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Part = Callable[[str], ModuleType]


@pytest.fixture
def faces(part: Part) -> Any:
    return part("nodes.faces")


def face_at(x: float, y: float, size: float = 40, points: int = 478) -> dict[str, Any]:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return {"landmarks_xy": (circle * size / 2 + (x, y)).astype(np.float32)}


def landmarks(*frames: list[dict[str, Any]]) -> dict[str, Any]:
    return {"frames": list(frames), "image_size": (200, 400)}


def test_the_largest_face_is_followed_through_the_clip(faces: Any) -> None:
    clip = landmarks([face_at(100, 100, 40), face_at(300, 100, 60)], [], [face_at(290, 100, 30), face_at(110, 100, 80)])
    rows = faces.landmark_rows(clip, (400, 200))
    assert rows.shape == (3, 68, 2)
    assert np.isnan(rows[1]).all()
    assert (np.abs(rows[0].mean(axis=0) - (300, 100)) < 20).all()
    assert (np.abs(rows[2].mean(axis=0) - (290, 100)) < 20).all()  # the same person, though no longer the largest


def test_the_face_nearest_to_a_point_is_chosen(faces: Any) -> None:
    rows = faces.landmark_rows(landmarks([face_at(300, 100, 60), face_at(100, 100, 40)]), (400, 200), (90.0, 90.0))
    assert abs(rows[0, :, 0].mean() - 100) < 20


def test_landmarks_found_at_another_size_are_scaled(faces: Any) -> None:
    small = faces.landmark_rows(landmarks([face_at(100, 100)]), (400, 200))
    assert np.allclose(faces.landmark_rows(landmarks([face_at(100, 100)]), (800, 400)), 2 * small)


def test_sixty_eight_points_are_taken_as_they_are(faces: Any) -> None:
    face = face_at(100, 100, points=68)
    assert np.array_equal(faces.landmark_rows(landmarks([face]), (400, 200))[0], face["landmarks_xy"])


@pytest.mark.parametrize("bad", [None, {}, {"frames": [[{"landmarks_xy": np.zeros((5, 2))}]]}])
def test_other_landmarks_are_refused(part: Part, faces: Any, bad: Any) -> None:
    with pytest.raises(part("musetalk.errors").InputError, match="landmarks input"):
        faces.landmark_rows(bad, (400, 200))


BOX = {"x": 10, "y": 20, "width": 30, "height": 40}


@pytest.mark.parametrize("layout", [BOX, [BOX], [[BOX]]])
def test_one_box_in_any_layout(faces: Any, layout: Any) -> None:
    assert faces.box_rows(layout).tolist() == [[10, 20, 40, 60]]


def test_boxes_per_frame_keep_frames_without_one(faces: Any) -> None:
    rows = faces.box_rows([[BOX], [], [{**BOX, "x": 12}]])
    assert rows[[0, 2], 0].tolist() == [10, 12] and np.isnan(rows[1]).all()


@pytest.mark.parametrize("bad", [[], "box", [[{"x": 1}]]])
def test_other_boxes_are_refused(part: Part, faces: Any, bad: Any) -> None:
    with pytest.raises(part("musetalk.errors").InputError, match="boxes input"):
        faces.box_rows(bad)
