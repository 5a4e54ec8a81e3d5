"""The whole face stage on a real talking head: found everywhere, boxed as MediaPipe's landmarks say, and steady."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musetalk import FrameSource
from musetalk.face.blazeface import iou
from musetalk.face.boxes import face_box
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.people import find_people
from musetalk.face.track import FaceTrack
from musetalk.face.tracking import track_faces
from musetalk.profile import Profile

FRAMES = 150


@pytest.fixture(scope="module")
def clip(shared: Path) -> np.ndarray:
    """uint8 ``[150, 768, 576, 3]``."""
    with FrameSource.open(shared / "data" / "sun.mp4") as source:
        return source[:FRAMES]


@pytest.fixture(scope="module")
def raw(clip: np.ndarray, mesh: FaceMesh) -> FaceTrack:
    return track_faces(clip, source=MeshLandmarks(mesh), profile=Profile(smoothing=0))


@pytest.fixture(scope="module")
def smoothed(clip: np.ndarray, mesh: FaceMesh) -> FaceTrack:
    return track_faces(clip, source=MeshLandmarks(mesh))


def test_every_frame_is_redrawn(smoothed: FaceTrack) -> None:
    assert smoothed.valid.all() and smoothed.passed == ()
    assert (smoothed.weights == 1).all() and smoothed.confidence.min() > 0.5


@pytest.mark.parametrize("which", ["raw", "smoothed"])
def test_boxes_are_those_of_mediapipes_landmarks(shared: Path, request: pytest.FixtureRequest, which: str) -> None:
    golden = np.load(shared / "goldens" / "face" / "facemesh.npz")
    boxes = request.getfixturevalue(which).boxes
    for frame, points in zip(golden["sun_track/frames"], golden["sun_track/landmarks"], strict=True):
        wanted = face_box(to_68(points), (576, 768))
        assert iou(np.array(wanted), boxes[frame][None])[0] >= 0.95


def test_landmarks_shake_a_third_as_much_and_do_not_lag(raw: FaceTrack, smoothed: FaceTrack) -> None:
    assert smoothed.jitter is not None and smoothed.jitter.smoothed <= smoothed.jitter.raw / 3
    assert raw.landmarks is not None and smoothed.landmarks is not None
    before, after = (track.landmarks.mean(axis=1) for track in (raw, smoothed))
    np.testing.assert_allclose(after, before, atol=1)
    moved = np.abs(np.diff(before, axis=0)).sum()
    assert np.abs(after - before).mean() < 0.2 and moved > 20


def test_there_is_one_person(clip: np.ndarray, mesh: FaceMesh) -> None:
    (person,) = find_people(clip[::3], source=MeshLandmarks(mesh))
    assert person.frames == tuple(range(50)) and person.index == 0 and person.cuts == ()
