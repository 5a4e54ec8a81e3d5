from __future__ import annotations

import numpy as np
import pytest

from musetalk.face.boxes import add_extra_margin, face_box, fit_box, shift_box, shift_range
from musetalk.face.track import FaceTrack


def landmarks(x0: float = 500, x1: float = 700, nose: float = 300, bottom: float = 420) -> np.ndarray:
    """The worked example of spec 3.5 unless told otherwise."""
    points = np.full((68, 2), (600.0, 310.0), np.float32)
    points[0, 0], points[16, 0], points[8, 1] = x0, x1, bottom
    points[28:31, 1] = 280, nose, 318
    return points


def track_of(points: np.ndarray, box: tuple[int, int, int, int]) -> FaceTrack:
    return FaceTrack(
        np.array([box, box], np.int32),
        np.array([True, False]),
        np.stack([points, np.full_like(points, np.nan)]),
        None,
        np.ones(2, np.float32),
        np.ones(2, np.float32),
        np.ones(2, np.float32),
    )


def test_worked_example() -> None:
    box = face_box(landmarks(), (1280, 720))
    assert box == (500, 180, 700, 420)
    assert add_extra_margin(box, 10, 720) == (500, 180, 700, 430)
    assert add_extra_margin(box, 10, 425) == (500, 180, 700, 425)


def test_range_has_upstreams_ends_the_right_way_round() -> None:
    found = shift_range(track_of(landmarks(), (500, 180, 700, 420)))
    assert found is not None
    assert (found.up, found.down) == (20, 18)
    assert (found.up_fraction, found.down_fraction) == pytest.approx((20 / 240, 18 / 240))
    assert "-20 px (up" in str(found)
    assert "+18 px (down" in str(found)


def test_range_is_unknown_without_landmarks() -> None:
    one = np.ones(1, np.float32)
    given = FaceTrack(np.zeros((1, 4), np.int32), np.ones(1, bool), None, None, one, one, one)
    assert shift_range(given) is None


@pytest.mark.parametrize(("shift", "top"), [(10, 200), (-10, 160), (-200, 0)])
def test_shift_moves_the_top_twice_as_far_and_stops_at_the_edge(shift: int, top: int) -> None:
    assert face_box(landmarks(), (1280, 720), shift) == (500, top, 700, 420)
    assert shift_box((500, 180, 700, 420), shift) == (500, top, 700, 420)


def test_a_shift_below_the_chin_leaves_no_box() -> None:
    # upstream writes the shifted point back before it takes the lowest one, so top and bottom meet
    assert face_box(landmarks(), (1280, 720), 130) is None


def test_landmarks_are_truncated_not_rounded() -> None:
    assert face_box(landmarks(500.9, 700.9, 300.9, 420.9), (1280, 720)) == (500, 180, 700, 420)


@pytest.mark.parametrize(
    ("points", "size", "clamped", "upstream"),
    [
        (landmarks(x0=-20), (1280, 720), (0, 180, 700, 420), None),
        (landmarks(x1=1300), (1280, 720), (500, 180, 1280, 420), (500, 180, 1300, 420)),
        (landmarks(nose=100), (1280, 720), (500, 0, 700, 420), (500, 0, 700, 420)),
        (landmarks(), (1280, 400), (500, 180, 700, 400), (500, 180, 700, 420)),
        (landmarks(), (400, 400), None, (500, 180, 700, 420)),
    ],
    ids=["left", "right", "top", "bottom", "outside"],
)
def test_clamping(
    points: np.ndarray,
    size: tuple[int, int],
    clamped: tuple[int, ...] | None,
    upstream: tuple[int, ...] | None,
) -> None:
    assert face_box(points, size) == clamped
    assert face_box(points, size, parity=True) == upstream


def test_unknown_landmarks_have_no_box() -> None:
    assert face_box(np.full((68, 2), np.nan), (1280, 720)) is None


def test_an_empty_box_does_not_fit() -> None:
    assert fit_box((5, 5, 5, 9), (10, 10)) is None
    assert fit_box((5, 5, 5, 9), (10, 10), parity=True) is None
