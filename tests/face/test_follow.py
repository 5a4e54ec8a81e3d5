"""Following one face through lists of all faces."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from musetalk.face.given import GivenFaces
from musetalk.face.sources import FaceObservation
from musetalk.face.tracking import track_faces
from musetalk.profile import Profile

FPS = Fraction(25)
A, B = FaceObservation(box=(50, 50, 150, 170), score=1.0), FaceObservation(box=(400, 50, 480, 150), score=1.0)
CLIP = np.zeros((60, 240, 640, 3), np.uint8)


def lefts(*frames: list[FaceObservation], select: str | tuple[float, float] = "largest") -> list[int]:
    track = track_faces(CLIP[: len(frames)], source=GivenFaces(frames), select=select, profile=Profile(fade=0))
    return track.boxes[:, 0].tolist()


def test_a_face_missing_for_a_moment_is_not_exchanged() -> None:
    assert lefts(*[[A, B]] * 5, [B], [], *[[B, A]] * 5) == [50] * 5 + [0, 0] + [50] * 5


def test_after_a_second_the_nearest_is_taken() -> None:
    found = lefts(*[[A, B]] * 5, *[[B]] * 40)
    assert found[:5] == [50] * 5 and found[5:30] == [0] * 25 and found[31:] == [400] * 14


def test_the_selected_one_is_followed() -> None:
    assert lefts(*[[A, B]] * 3, select=(440, 100)) == [400] * 3


def test_a_moving_face_is_followed_past_another() -> None:
    moving = [FaceObservation(box=(20 * i, 50, 20 * i + 100, 170), score=1.0) for i in range(25)]
    below = FaceObservation(box=(400, 130, 480, 230), score=1.0)
    frames = [[below, face] for face in moving]
    assert lefts(*frames) == [face.box[0] for face in moving if face.box is not None]
