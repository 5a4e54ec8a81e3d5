"""Inputs that must be refused, at once and in one clear sentence."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from musetalk.errors import InputError
from musetalk.video.frames import FrameSource
from musetalk.video.rates import as_rate


def _sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])


def test_files_that_are_no_video(tmp_path):
    text, empty, folder, sound = (tmp_path / name for name in ("text.mp4", "empty.mp4", "folder", "sound.m4a"))
    text.write_text("no video at all\n" * 100)
    empty.touch()
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")
    _sound_only(sound)
    for path, message in [
        (text, "cannot be read"),
        (empty, "is empty"),
        (folder, "no images"),
        (sound, "only sound"),
        (tmp_path / "missing.mp4", "does not exist"),
        (tmp_path / "missing.png", "does not exist"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            FrameSource.open(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_cover_art_is_no_video(tmp_path):
    plain, path = tmp_path / "plain.m4a", tmp_path / "cover.mp3"
    _sound_only(plain)
    Image.new("RGB", (32, 32)).save(tmp_path / "cover.jpg")
    with av.open(str(path), "w") as container, av.open(str(tmp_path / "cover.jpg")) as cover:
        sound = container.add_stream("libmp3lame", rate=44100)
        picture = container.add_stream_from_template(cover.streams.video[0])
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in cover.demux(cover.streams.video[0]):
            if packet.size:
                packet.stream = picture
                container.mux(packet)
        container.mux([*sound.encode(frame), *sound.encode(None)])
    with av.open(str(path)) as container:
        assert container.streams.video
    with pytest.raises(InputError, match="only sound"):
        FrameSource.open(path)


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
@pytest.mark.parametrize(
    "suffix, codec, muxer",
    [
        (".mp4", "libx264", {}),
        (".mov", "libx264", {"movflags": "faststart"}),
        (".mkv", "libx264", {}),
        (".webm", "libvpx", {}),
    ],
)
def test_truncated(tmp_path, clip_tools, suffix, codec, muxer, keep):
    whole = clip_tools.encode(tmp_path / f"whole{suffix}", 60, codec=codec, muxer=muxer)
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * keep)])
    FrameSource.open(whole).close()
    with pytest.raises(InputError, match=r"cut short|cannot be read") as caught:
        FrameSource.open(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damage_names_frame_and_time(tmp_path, clip_tools, suffix):
    path = clip_tools.encode(tmp_path / f"clip{suffix}", 60, options={"g": "10", "bf": "0", "crf": "1"})
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        place, size = packets[33].pos, packets[33].size
    data = bytearray(path.read_bytes())
    data[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(data)
    with FrameSource.open(path) as source:
        assert clip_tools.numbers_of(source[:30]) == list(range(30))
        with pytest.raises(InputError, match=r"frame 33 at 1\.320 s"):
            source[30:40]
        assert clip_tools.numbers_of(source[45:50]) == list(range(45, 50))


def test_absurd_sizes(tmp_path):
    Image.new("L", (16385, 1)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match="16385x1"):
        FrameSource.open(tmp_path / "wide.png")
    with pytest.raises(InputError, match="16385"):
        FrameSource.from_array(np.zeros((1, 1, 16385, 3), np.uint8))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((2, 0, 4, 3), np.uint8),
    ],
    ids=["no frames", "one picture", "alpha", "float", "no rows"],
)
def test_arrays(frames):
    with pytest.raises(InputError, match="uint8 RGB"):
        FrameSource.from_array(frames)


@pytest.mark.parametrize("fps", [0, -25, 1001, float("nan"), float("inf"), "fast", None, Fraction(0)])
def test_rates(fps):
    with pytest.raises(InputError, match="fps"):
        as_rate(fps)


@pytest.mark.parametrize(
    "fps, expected",
    [
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25.0, Fraction(25)),
        (24, Fraction(24)),
        (Fraction(2997, 100), Fraction(2997, 100)),
        (12.34, Fraction(617, 50)),
    ],
)
def test_rates_are_exact(fps, expected):
    assert as_rate(fps) == expected
