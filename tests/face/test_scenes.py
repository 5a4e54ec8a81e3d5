from __future__ import annotations

import numpy as np
import pytest

from musetalk.face.scenes import CutDetector

from .people_clips import astronaut, compose, hopper, line, plain, stay, textured


def cuts(frames: np.ndarray) -> list[int]:
    detector = CutDetector()
    return [i for i, frame in enumerate(frames) if detector.step(frame)]


def test_the_first_frame_begins_a_shot() -> None:
    assert cuts(np.zeros((3, 40, 60, 3), np.uint8)) == [0]


@pytest.mark.parametrize("wall", [plain(), textured()])
def test_people_who_change_places_on_one_set(wall: np.ndarray) -> None:
    places = (130, 120, 70), (350, 120, 74)
    frames, _ = compose(
        [(astronaut(), lambda i: places[i >= 5]), (hopper(), lambda i: places[i < 5])],
        10,
        wall,
    )
    assert cuts(frames) == [0, 5]


def test_every_one_of_several_cuts() -> None:
    frames, _ = compose([(hopper(), stay(240, 130, 80))], 12, lambda i: textured(seed=i // 3))
    assert cuts(frames) == [0, 3, 6, 9]


def test_motion_is_no_cut() -> None:
    n = 16
    frames, _ = compose(
        [(astronaut(), line((80, 120, 64), (400, 120, 64), n)), (hopper(), line((400, 125, 90), (60, 125, 70), n))],
        n,
        textured(),
    )
    assert cuts(frames) == [0]


def test_light_that_fades_is_no_cut() -> None:
    frames, _ = compose([(hopper(), stay(240, 130, 80))], 16, textured(), light=lambda i: 1.2 - 0.07 * i)
    assert cuts(frames) == [0]


def test_a_flash_is_one_cut_at_most() -> None:
    frames, _ = compose([(hopper(), stay(240, 130, 80))], 12, textured(), light=lambda i: 3.0 if i in (5, 6) else 1.0)
    assert cuts(frames) in ([0], [0, 5])


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (2160, 3840)])
def test_any_size(shape: tuple[int, int]) -> None:
    assert cuts(np.zeros((2, *shape, 3), np.uint8)) == [0]
