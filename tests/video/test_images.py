"""Images and folders of them as footage."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from musetalk.errors import InputError
from musetalk.video.color import ColorInfo
from musetalk.video.frames import FrameSource


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".webp", ".jpg", ".jpeg"])
def test_an_image_is_one_frame(tmp_path, picture, suffix):
    path = tmp_path / f"face{suffix}"
    Image.fromarray(picture // 64 * 20).resize((60, 40)).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    with FrameSource.open(path) as source:
        assert source.is_still and len(source) == 1
        assert (source.size, source.fps, source.path) == ((60, 40), Fraction(25), path)
        assert source.color == ColorInfo.rgb()
        assert np.array_equal(source[0], np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    turns = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }
    with FrameSource.open(tmp_path / "a.png") as source:
        assert np.array_equal(source[0], turns[orientation])
        assert source.size == source[0].shape[1::-1]


def test_transparency_goes_over_black(tmp_path):
    Image.new("RGBA", (4, 4), (200, 100, 50, 128)).save(tmp_path / "a.png")
    Image.new("LA", (4, 4), (200, 0)).save(tmp_path / "b.png")
    assert FrameSource.open(tmp_path / "a.png")[0][0, 0].tolist() == [100, 50, 25]
    assert not FrameSource.open(tmp_path / "b.png")[0].any()


def test_sixteen_bits_are_scaled(tmp_path):
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(4, 0) * 257
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        with FrameSource.open(tmp_path / name) as source:
            assert np.array_equal(source[0][0], np.arange(256)[:, None].repeat(3, 1))


def test_other_modes(tmp_path, picture):
    for name, mode in [("p.png", "P"), ("one.png", "1"), ("l.png", "L"), ("cmyk.jpg", "CMYK")]:
        image = Image.fromarray(picture).convert(mode)
        image.save(tmp_path / name)
        with FrameSource.open(tmp_path / name) as source:
            assert np.array_equal(source[0], np.asarray(Image.open(tmp_path / name).convert("RGB")))


def test_a_folder_is_read_in_natural_order(tmp_path, clip_tools):
    for number in range(12):
        Image.fromarray(clip_tools.draw(number)).save(tmp_path / f"Frame {number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._Frame 3.png").write_bytes(b"left by a file manager")
    with FrameSource.open(tmp_path, fps=24) as source:
        assert source.fps == 24 and len(source) == 12 and source.path == tmp_path
        assert clip_tools.numbers_of(source[:]) == list(range(12))
        assert clip_tools.numbers_of(source[::-1]) == list(range(11, -1, -1))
        first = source.content_hash()
    (tmp_path / "Frame 3.png").rename(tmp_path / "Frame 12.png")
    assert FrameSource.open(tmp_path).content_hash() != first


def test_a_folder_of_several_sizes_is_refused(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "1.png")
    Image.fromarray(picture[:10]).save(tmp_path / "2.png")
    with pytest.raises(InputError, match=r"2\.png is 30x10 but 1\.png is 30x20"):
        FrameSource.open(tmp_path)


def test_damaged_images_are_refused(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    Image.fromarray(picture).save(
        tmp_path / "moving.webp", save_all=True, append_images=[Image.fromarray(picture[::-1])]
    )
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    for name, message in [
        ("cut.png", "damaged|cannot be read"),
        ("text.png", "cannot be read"),
        ("empty.png", "is empty"),
        ("moving.webp", "animation"),
        ("float.tif", "floating-point"),
    ]:
        with pytest.raises(InputError, match=message):
            FrameSource.open(tmp_path / name)
