"""References, margins and augmentation: the set logic on landmarks made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.training.augment import Augmentation, Change, flip_landmarks
from musetalk.training.sampling import (
    draw_margin,
    in_box,
    informative_frames,
    mouth_distance,
    pose_distance,
    random_reference,
    select_reference,
)


def talker(pose: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """[M, 68, 2] whose jaw is moved right by `pose`, and whose inner lip is moved down by `mouth`."""
    points = np.zeros((len(pose), 68, 2), np.float32)
    points[:, :17, 0] = pose[:, None]
    points[:, 60:, 1] = mouth[:, None]
    return points


def test_distances_are_the_mean_length_over_their_points_only() -> None:
    points = np.zeros((3, 68, 2), np.float32)
    points[1, 0] = (3, 4)
    points[1, 16] = (1000, 1000)  # the jaw's last point does not count
    points[2, 66] = (0, 14)
    points[2, 67] = (1000, 1000)  # nor does the inner lip's
    points[1:, 17:60] = 500
    assert pose_distance(points, 0) == pytest.approx([0, 5 / 16, 0])
    assert mouth_distance(points, 0) == pytest.approx([0, 0, 2])


def test_landmarks_are_scaled_by_each_frames_own_box() -> None:
    points = np.tile(np.array([[60.0, 40.0]]), (2, 68, 1))
    scaled = in_box(points, np.array([[10, 20, 110, 60], [60, 40, 61, 41]]))
    assert scaled.dtype == np.float32
    assert scaled[:, 0].tolist() == [[128.0, 128.0], [0.0, 0.0]]


def test_informative_frames_by_hand() -> None:
    # Ten frames, K = 5. Nearest in pose to frame 0: 1 2 3 4 5. Farthest in mouth: 4 5 6 7 8.
    points = talker(np.arange(10.0), np.array([0, 1, 2, 3, 9, 8, 7, 6, 5, 4], float))
    assert informative_frames(points, 0).tolist() == [4, 5]
    # A smaller share: K = 3 leaves 1 2 3 and 4 5 6.
    assert informative_frames(points, 0, top_k=0.3).tolist() == []


def test_the_target_is_never_informative_even_in_a_still_picture() -> None:
    still = np.zeros((40, 68, 2), np.float32)
    for target in range(40):
        assert target not in informative_frames(still, target)


def test_only_informative_frames_are_chosen_and_all_of_them() -> None:
    rng = np.random.default_rng(0)
    points = talker(rng.normal(size=120), rng.normal(size=120))
    far = [i for i in informative_frames(points, 60) if abs(i - 60) >= 5]
    chosen = {select_reference(points, 60, rng) for _ in range(3000)}
    # A near one that was drawn is redrawn at random: with T = 1 that is five frames away to either side.
    assert chosen - {55, 65} == set(far) - {55, 65}


@pytest.mark.parametrize("count", [2, 3, 5, 6, 9, 10, 11, 80])
@pytest.mark.parametrize("frames", [1, 16])
def test_neither_the_target_nor_its_neighbours_are_chosen(count: int, frames: int) -> None:
    rng = np.random.default_rng(count)
    points = talker(rng.normal(size=count), rng.normal(size=count))
    for target in range(count):
        most = max(target, count - 1 - target)
        for _ in range(10):
            for chosen in (
                select_reference(points, target, rng, frames=frames),
                random_reference(count, target, rng, frames=frames),
            ):
                assert 0 <= chosen < count and chosen != target
                # Where nothing is five frames away, the farthest there is.
                assert abs(chosen - target) >= min(5, most)


def test_an_empty_intersection_gives_a_random_frame_within_reach() -> None:
    # The nearer in pose, the nearer in mouth: K of the one and K of the other share nothing.
    points = talker(np.arange(200.0), np.arange(200.0))
    assert len(informative_frames(points, 0, top_k=0.4)) == 0
    rng = np.random.default_rng(1)
    chosen = {select_reference(points, 0, rng, frames=2, top_k=0.4) for _ in range(300)}
    assert chosen == {5, 6, 7, 8, 9, 10}


def test_random_references_reach_five_times_the_frames_to_either_side() -> None:
    rng = np.random.default_rng(2)
    chosen = {random_reference(1000, 500, rng, frames=2) - 500 for _ in range(1000)}
    assert chosen == {-10, -9, -8, -7, -6, -5, 5, 6, 7, 8, 9, 10}


def test_the_same_seed_gives_the_same_references() -> None:
    points = talker(np.random.default_rng(3).normal(size=90), np.random.default_rng(4).normal(size=90))
    runs = [[select_reference(points, i, rng) for i in range(90)] for rng in map(np.random.default_rng, (7, 7, 8))]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(("count", "target"), [(1, 0), (5, 5), (5, -1)])
def test_impossible_targets_are_refused(count: int, target: int) -> None:
    with pytest.raises(InputError):
        select_reference(np.zeros((count, 68, 2)), target, np.random.default_rng())
    with pytest.raises(InputError):
        random_reference(count, target, np.random.default_rng())


def test_margins_are_clipped_normal_or_uniform() -> None:
    rng = np.random.default_rng(5)
    normal = np.array([draw_margin(rng) for _ in range(4000)])
    uniform = np.array([draw_margin(rng, method="uniform") for _ in range(4000)])
    for margins in (normal, uniform):
        assert margins.min() == 0 and 19 <= margins.max() <= 20
        assert margins.mean() == pytest.approx(9.5, abs=0.5)
    # What the normal distribution has beyond one deviation lies on the two ends: 16 % each.
    assert (normal == 20).mean() == pytest.approx(0.159, abs=0.03)
    assert (uniform == 20).mean() < 0.01
    assert draw_margin(rng, mean=-30, spread=5) == 0


def test_a_mirrored_face_keeps_its_sides() -> None:
    points = np.zeros((1, 68, 2), np.float32)
    points[0, 0] = (10, 50)  # the jaw's end on the picture's left
    points[0, 48] = (90, 150)  # the mouth's left corner
    flipped = flip_landmarks(points, 256)
    assert flipped[0, 16].tolist() == [246, 50]
    assert flipped[0, 54].tolist() == [166, 150]
    assert (flip_landmarks(flipped, 256) == points).all()


def test_augmentation_is_off_by_default_and_shared_by_a_sample() -> None:
    rng = np.random.default_rng(6)
    crops = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    assert (Augmentation().draw(rng).pictures(crops) == crops).all()
    change = Augmentation(flip=1, brightness=0.3, contrast=0.3, saturation=0.3).draw(rng)
    whole = change.pictures(crops)
    assert change.mirrored and not (whole == crops[:, :, ::-1]).all()
    assert all((change.pictures(crops[i : i + 1]) == whole[i]).all() for i in range(3))
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    assert (Change(brightness=1.5).pictures(grey) == 150).all()
    assert (Change(saturation=0.0).pictures(grey) == 100).all()
