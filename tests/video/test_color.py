"""Colour in and out: matrix, range, bit depth, transparency."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.video.color import ColorInfo
from musetalk.video.frames import FrameSource
from musetalk.video.writer import VideoWriter

SIZE = (128, 96)
COEFFICIENTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 60), (30, 90, 160)]


def smooth(frames: int = 3) -> np.ndarray:
    """uint8 RGB [frames, H, W, 3], soft colour gradients as skin and walls have."""
    noise = np.random.default_rng(0).integers(20, 236, (frames, 6, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, SIZE, interpolation=cv2.INTER_CUBIC) for picture in noise])


def to_yuv(rgb: tuple[int, int, int], matrix: int, full: bool, depth: int = 8) -> list[int]:
    """The definition in ITU-T H.273."""
    red, green, blue = (value / 255 for value in rgb)
    kr, kb = COEFFICIENTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = ((blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr))
    unit, top = 2 ** (depth - 8), 2**depth - 1
    if full:
        values = [top * luma, *(128 * unit + top * value for value in chroma)]
    else:
        values = [(16 + 219 * luma) * unit, *((128 + 224 * value) * unit for value in chroma)]
    return [min(round(value), top) for value in values]


def write_planes(path, planes, pixel_format, color=None):
    """Encode constant planes losslessly, tagged with `color`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg" if pixel_format.startswith("yuvj") else "ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixel_format
        if color:
            context = stream.codec_context
            context.colorspace, context.color_range = color.matrix, color.range
        frame = av.VideoFrame(*SIZE, pixel_format)
        wide = frame.format.components[0].bits > 8
        for plane, value in zip(frame.planes, planes, strict=True):
            raw = np.full(plane.buffer_size // (1 + wide), value, np.uint16 if wide else np.uint8)
            plane.update(raw.tobytes())
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", COEFFICIENTS)
def test_decoding_uses_the_videos_own_matrix_and_range(tmp_path, matrix, full, pixel_format):
    depth = int(pixel_format[-4:-2]) if pixel_format.endswith("le") else 8
    for number, colour in enumerate(COLOURS):
        planes = to_yuv(colour, matrix, full, depth)
        path = write_planes(tmp_path / f"{number}.mkv", planes, pixel_format, ColorInfo(matrix, 2 if full else 1))
        with FrameSource.open(path) as source:
            assert (source.color.matrix, source.color.range) == (matrix, 2 if full else 1)
            assert np.abs(source[0].astype(int) - colour).max() <= 3


@pytest.mark.parametrize(
    "pixel_format, planes, full", [("yuvj420p", 3, True), ("yuv420p", 3, False), ("gray", 1, True)]
)
def test_untagged_video_is_read_as_swscale_reads_it(tmp_path, pixel_format, planes, full):
    colour = (200, 200, 200) if planes == 1 else (200, 120, 60)
    path = write_planes(tmp_path / "clip.avi", to_yuv(colour, 6, full)[:planes], pixel_format)
    with FrameSource.open(path) as source:
        assert source.color.matrix in {2, 5}  # JPEG decoders name theirs
        assert np.abs(source[0].astype(int) - colour).max() <= 3


def test_transparency_is_flattened_over_black(tmp_path):
    path = write_planes(tmp_path / "clip.mkv", [*to_yuv((200, 120, 60), 1, False), 128], "yuva420p", ColorInfo(1, 1))
    with FrameSource.open(path) as source:
        assert np.abs(source[0].astype(int) - (100, 60, 30)).max() <= 2


def test_a_matrix_nobody_can_invert_is_refused(tmp_path):
    path = write_planes(tmp_path / "clip.mkv", (128, 128, 128), "yuv420p", ColorInfo(matrix=14))
    with pytest.raises(InputError, match="colour matrix 14"):
        FrameSource.open(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "color",
    [
        ColorInfo(1, 1, 1, 1),
        ColorInfo(6, 1, 6, 6),
        ColorInfo(1, 2, 1, 13),
        ColorInfo(9, 1, 9, 14),
        ColorInfo(),
    ],
    ids=["bt709", "bt601", "full", "bt2020", "untagged"],
)
def test_round_trip_keeps_tags_and_colour(tmp_path, color, suffix):
    frames = smooth()
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, *SIZE, Fraction(25), color=color, crf=1, preset="ultrafast") as writer:
        writer.write(frames)
    with FrameSource.open(path) as source:
        seen = source.color
        assert (seen.matrix, seen.primaries, seen.transfer) == (color.matrix, color.primaries, color.transfer)
        assert seen.range == color.range or {seen.range, color.range} == {0, 1}
        error = source[:].astype(int) - frames
    assert np.abs(error).mean() < 1.5
    # FFmpeg 8 rounds full-range chroma down on the way in; 7 does not.
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < (1.0 if color.range == 2 else 0.4)


def test_generations_do_not_drift(tmp_path):
    """Decode and encode again, several times: no darkening, no creeping chroma."""
    frames, seen = smooth(), smooth()
    for generation in range(5):
        path = tmp_path / f"{generation}.mkv"
        with VideoWriter(path, *SIZE, Fraction(25), codec="ffv1", color=ColorInfo(1, 1)) as writer:
            writer.write(seen)
        seen = FrameSource.open(path)[:]
    error = seen.astype(int) - frames
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.6
    assert np.abs(error).mean() < 2


def test_what_was_rgb_is_written_as_bt709(tmp_path):
    path = tmp_path / "clip.mp4"
    source = FrameSource.from_array(smooth())
    with VideoWriter(path, *SIZE, source.fps, color=source.color) as writer:
        writer.write(source[:])
    with FrameSource.open(path) as written:
        assert written.color == ColorInfo(1, 1, 1, 1)


@pytest.mark.parametrize("size", [(128, 96), (97, 65)])
def test_lossless_rgb(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 256, (3, size[1], size[0], 3), dtype=np.uint8)
    path = tmp_path / "clip.mkv"
    with VideoWriter(path, *size, Fraction(25), codec="ffv1", pixel_format="bgr0") as writer:
        writer.write(frames)
    for parity in (False, True):
        with FrameSource.open(path, parity=parity) as source:
            assert np.array_equal(source[:], frames)
