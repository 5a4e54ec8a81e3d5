"""Mattes: read lazily, at the footage's size, refused where they do not fit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musetalk.errors import InputError
from musetalk.face.mattes import Mattes, covered, open_mattes
from musetalk.video.frames import FrameSource

LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)


@pytest.mark.parametrize("levels", [LEVELS, LEVELS[0], LEVELS / 255, (LEVELS / 255).astype(np.float16)])
def test_every_level_is_kept(levels: np.ndarray) -> None:
    mattes = Mattes.from_array(levels)
    assert len(mattes) == 1
    for index in (0, 7):
        np.testing.assert_array_equal(mattes.read([index]), LEVELS)


def test_floats_are_clipped_and_bools_are_black_and_white() -> None:
    assert Mattes.from_array(np.array([[-3.0, 7.0, np.inf]])).read([0]).tolist() == [[[0, 255, 255]]]
    assert Mattes.from_array(np.array([[False, True]])).read([0]).tolist() == [[[0, 255]]]


@pytest.mark.parametrize(
    "hostile",
    [
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 4), np.uint8),
        np.zeros((4, 4), np.int32),
        np.array([["a", "b"]]),
        np.full((2, 3, 3), np.nan),
    ],
)
def test_other_arrays_are_refused(hostile: np.ndarray) -> None:
    with pytest.raises(InputError, match="the mask"):
        Mattes.from_array(hostile)


def test_as_many_as_frames_or_one() -> None:
    three = Mattes.from_array(np.zeros((3, 8, 8), np.uint8))
    three.for_clip(3, (8, 8))
    with pytest.raises(InputError, match="3 pictures for 5 frames"):
        three.for_clip(5, (8, 8))
    with pytest.raises(InputError, match="none for frame 3"):
        three.read([1, 3])
    Mattes.from_array(np.zeros((8, 8), np.uint8)).for_clip(5, (8, 8))


def test_another_size_is_stretched() -> None:
    half = np.zeros((4, 6), np.uint8)
    half[:, 3:] = 255
    for size in ((60, 40), (3, 2)):
        (matte,) = Mattes.from_array(half).for_clip(9, size).read([4])
        assert matte.shape == size[::-1]
        assert not matte[:, : size[0] // 3].any() and (matte[:, -(size[0] // 3) :] == 255).all()


def test_files_are_read_as_luma(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((6, 8), 100 * i, np.uint8)).save(tmp_path / f"{i}.png")
    with Mattes.open(tmp_path) as folder:
        assert folder.read([2, 0]).tolist() == np.repeat([200, 0], 48).reshape(2, 6, 8).tolist()
    with Mattes.open(tmp_path / "1.png") as picture:
        assert (picture.read([5]) == 100).all()
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "luma.png")
    assert Mattes.open(tmp_path / "luma.png").read([0])[0, 0].tolist() == [76, 150, 29]


def test_what_a_caller_gives_is_opened_and_closed(tmp_path: Path) -> None:
    frames = FrameSource.from_array(np.zeros((2, 6, 8, 3), np.uint8))
    Image.fromarray(np.full((12, 16), 9, np.uint8)).save(tmp_path / "matte.png")
    with ExitStack() as stack:
        assert open_mattes(stack, None, frames) is None
        given = Mattes.from_array(np.full((2, 3, 3), 9, np.uint8))
        for mattes in (tmp_path / "matte.png", str(tmp_path / "matte.png"), given, np.full((6, 8), 9, np.uint8)):
            opened = open_mattes(stack, mattes, frames)
            assert opened is not None and (opened.read([1, 0]) == np.full((2, 6, 8), 9)).all()
        with pytest.raises(InputError, match="for 2 frames"):
            open_mattes(stack, np.zeros((3, 6, 8), np.uint8), frames)
        with pytest.raises(InputError):
            open_mattes(stack, tmp_path / "nothing.png", frames)


class TestCovered:
    boxes = np.array([[20, 20, 60, 80], [0, 0, 0, 0], [20, 20, 60, 80]], np.int32)
    seen = np.array([True, False, True])

    def read(self, mattes: np.ndarray, turns: np.ndarray | None = None) -> np.ndarray:
        return covered(Mattes.from_array(mattes).for_clip(3, (100, 100)), self.boxes, self.seen, turns)

    def test_parts_of_the_mouth_region(self) -> None:
        mattes = np.zeros((3, 100, 100), np.uint8)
        mattes[0, :50] = 255  # above the mouth
        mattes[2, 65:] = 255  # the lower half of it
        part = self.read(mattes)
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, [0, 0, 0.5], atol=1e-6)

    def test_one_matte_for_all(self) -> None:
        np.testing.assert_allclose(self.read(np.full((100, 100), 255, np.uint8)), [1, 0, 1])

    def test_the_region_turns_with_the_head(self) -> None:
        mattes = np.zeros((100, 100), np.uint8)
        mattes[:, :38] = 255  # to the left: where the chin of a head rolled by a quarter is
        quarter = np.array([40, 50, np.pi / 2], np.float32)
        turns = np.stack([quarter, np.full(3, np.nan), np.full(3, np.nan)]).astype(np.float32)
        rolled, _, level = self.read(mattes, turns)
        assert rolled > 0.85 and 0.3 < level < 0.5
