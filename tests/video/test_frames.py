"""Which frame comes out, at which rate, in which order."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.video.frames import FrameSource

B_FRAMES = {"preset": "veryfast", "bf": "3", "g": "12"}
NTSC = [Fraction(n * 1000, 1001) for n in (24, 30, 60)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts"])
@pytest.mark.parametrize("rate", [*NTSC, 24, 25, 30, 50, 60])
def test_constant_rate_is_exact_and_every_frame_comes_once(tmp_path, clip_tools, rate, suffix):
    path = clip_tools.encode(tmp_path / f"clip{suffix}", 40, rate, options=B_FRAMES)
    with FrameSource.open(path) as source:
        assert source.fps == rate
        assert source.size == (96, 64)
        assert clip_tools.numbers_of(source[:]) == list(range(40))
        assert not source.is_still


@pytest.mark.parametrize(
    "options",
    [
        {"bf": "0", "g": "250"},
        {"preset": "veryfast", "bf": "3", "g": "250"},
        {"preset": "veryfast", "bf": "3", "g": "2"},
        {"preset": "veryfast", "bf": "4", "g": "15", "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"},
        {"preset": "veryfast", "bf": "0", "x264-params": "intra-refresh=1:keyint=20"},
    ],
    ids=["long-gop", "long-gop-b", "tiny-gop-b", "open-gop", "intra-refresh"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_any_order_gives_the_same_pixels(tmp_path, clip_tools, options, suffix):
    path = clip_tools.encode(tmp_path / f"clip{suffix}", 70, options=options)
    with FrameSource.open(path) as source:
        forward = source[:]
    frame_bytes = 96 * 64 * 3 // 2
    with FrameSource.open(path, cache_bytes=8 * frame_bytes) as source:
        assert np.array_equal(source[::-1], forward[::-1])
        order = [*range(70), *range(69, -1, -1), *range(30), 30, 30, 5, 64, 12, 13]
        pieces = [source.read(order[start : start + 9]) for start in range(0, len(order), 9)]
        assert np.array_equal(np.concatenate(pieces), forward[order])
        assert np.array_equal(source[60:10:-7], forward[60:10:-7])
        assert np.array_equal(source[-1], forward[-1])


def test_forward_reading_never_seeks(tmp_path, clip_tools, monkeypatch):
    path = clip_tools.encode(tmp_path / "clip.mp4", 60, options=B_FRAMES)
    with FrameSource.open(path) as source:
        monkeypatch.setattr(source._decoder, "_seek", lambda *_: pytest.fail("seeks"))
        monkeypatch.setattr(source._decoder, "_reopen", lambda: pytest.fail("reopens"))
        for start in range(0, 60, 7):
            source[start : start + 7]


def test_indexing_follows_sequences(tmp_path, clip_tools):
    source = FrameSource.from_array(np.stack([clip_tools.draw(n) for n in range(5)]), fps=30)
    assert source.fps == 30 and source.path is None and len(source) == 5
    assert clip_tools.number_of(source[-1]) == 4
    assert source[2:2].shape == (0, 64, 96, 3)
    assert source.read([]).shape == (0, 64, 96, 3)
    assert clip_tools.numbers_of(source[np.int64(1) : 10]) == [1, 2, 3, 4]
    for bad in (5, -6):
        with pytest.raises(IndexError):
            source[bad]
    with pytest.raises(IndexError):
        source.read([0, -1])


def _on_screen(ticks: list[int], time_base: Fraction, fps: Fraction, length: int) -> list[int]:
    times = [(tick - ticks[0]) * time_base for tick in ticks]
    return [max(i for i, time in enumerate(times) if time <= k / fps) for k in range(length)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate_is_retimed_by_presentation_time(tmp_path, clip_tools, suffix):
    steps = np.random.default_rng(7).choice([1, 1, 1, 2, 5], 60) * 40  # ms: a 25 fps grid with holes
    ticks = [0, *np.cumsum(steps)[:-1].tolist()]
    path = clip_tools.encode(
        tmp_path / f"clip{suffix}", 60, 25, ticks=ticks, time_base=Fraction(1, 1000), options=B_FRAMES
    )
    for fps in (25, Fraction(30000, 1001), 10):
        with FrameSource.open(path, fps=fps) as source:
            assert source.fps == fps
            assert abs(len(source) / source.fps - Fraction(ticks[-1] + 40, 1000)) < Fraction(1, 4)
            assert clip_tools.numbers_of(source[:]) == _on_screen(ticks, Fraction(1, 1000), source.fps, len(source))
            assert np.array_equal(source[::-1], source[:][::-1])


def test_variable_rate_takes_the_nearest_standard_rate(tmp_path, clip_tools):
    ticks = np.cumsum([0, *[20, 60, 50, 30] * 12])[:48].tolist()  # 25 a second on average, uneven
    path = clip_tools.encode(tmp_path / "clip.mkv", 48, 25, ticks=ticks, time_base=Fraction(1, 1000))
    with FrameSource.open(path) as source:
        assert source.fps == 25


def test_jitter_neither_drops_nor_repeats_frames(tmp_path, clip_tools):
    jitter = np.random.default_rng(0).integers(-6, 7, 90)
    ticks = [1000 + round(n * 1000 / 30) + int(j) for n, j in enumerate(jitter)]
    path = clip_tools.encode(tmp_path / "clip.mkv", 90, 30, ticks=ticks, time_base=Fraction(1, 1000))
    with FrameSource.open(path) as source:
        assert source.fps == 30
        assert clip_tools.numbers_of(source[:]) == list(range(90))


@pytest.mark.parametrize("rate, fps, length", [(25, 50, 80), (50, 25, 20), (24, 30, 50), (30, 23.976, 32)])
def test_another_rate_keeps_duration(tmp_path, clip_tools, rate, fps, length):
    path = clip_tools.encode(tmp_path / "clip.mp4", 40, rate)
    with FrameSource.open(path, fps=fps) as source:
        assert len(source) == length
        expected = [min(39, int(k * rate / source.fps)) for k in range(length)]
        assert clip_tools.numbers_of(source[:]) == expected
        assert source.fps == {23.976: Fraction(24000, 1001)}.get(fps, fps)


def test_asking_for_its_own_rate_changes_nothing(tmp_path, clip_tools):
    fps = Fraction(30000, 1001)
    path = clip_tools.encode(tmp_path / "clip.mkv", 40, fps)
    with FrameSource.open(path, fps=fps) as source:
        assert (source.fps, len(source)) == (fps, 40)


@pytest.mark.parametrize(
    "suffix, codec", [(".avi", "libx264"), (".avi", "mjpeg"), (".webm", "libvpx"), (".h264", "libx264")]
)
def test_files_without_usable_times(tmp_path, clip_tools, suffix, codec):
    """AVI and raw streams have no presentation times; VP8 hides frames that no packet count should see."""
    options = {"libx264": B_FRAMES, "libvpx": {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}}
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = clip_tools.encode(
        tmp_path / f"clip{suffix}", 48, codec=codec, pixel_format=pixel_format, options=options.get(codec)
    )
    with FrameSource.open(path) as source:
        assert len(source) == 48
        assert clip_tools.numbers_of(source[:]) == list(range(48))
        assert clip_tools.numbers_of(source[40:10:-10]) == [40, 30, 20]


def test_an_edit_that_cuts_into_a_group_of_pictures(tmp_path, clip_tools):
    whole = clip_tools.encode(tmp_path / "whole.mp4", 60, options={"preset": "veryfast", "bf": "3", "g": "30"})
    path = _cut_start(whole, tmp_path / "cut.mp4", skip=Fraction(17, 25))
    with FrameSource.open(path) as source:
        assert source.fps == 25
        assert clip_tools.numbers_of(source[:]) == list(range(17, 60))
        assert clip_tools.numbers_of(source[::-3]) == list(range(17, 60))[::-3]


def _cut_start(source: Path, target: Path, skip: Fraction) -> Path:
    """Make an MP4's edit list start `skip` seconds later."""
    data = bytearray(source.read_bytes())
    place = data.index(b"elst") + 4
    media_scale = data.index(b"mdhd") + 4
    scale = int.from_bytes(data[media_scale + 12 : media_scale + 16], "big")
    movie = data.index(b"mvhd") + 4
    movie_scale = int.from_bytes(data[movie + 12 : movie + 16], "big")
    entry = place + 8
    duration = int.from_bytes(data[entry : entry + 4], "big") - int(skip * movie_scale)
    start = int.from_bytes(data[entry + 4 : entry + 8], "big") + int(skip * scale)
    data[entry : entry + 8] = duration.to_bytes(4, "big") + start.to_bytes(4, "big")
    target.write_bytes(data)
    return target


MATRICES = {
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
}


@pytest.mark.parametrize("turn", MATRICES)
def test_rotation_metadata_is_applied(tmp_path, clip_tools, turn):
    path = clip_tools.encode(tmp_path / "clip.mp4", 4)
    upright = FrameSource.open(path)[:]
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in MATRICES[turn])
    data[place : place + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(data)
    clockwise = {90: -1, 180: 2, 270: 1}
    expected = upright[:, :, ::-1] if turn == "mirrored" else np.rot90(upright, clockwise[turn], axes=(1, 2))
    with FrameSource.open(path) as source:
        assert source.size == (expected.shape[2], expected.shape[1])
        assert np.array_equal(source[:], expected)


def test_reading_backward_is_bounded_in_memory(tmp_path):
    script = """
import sys, av, numpy as np, psutil
from fractions import Fraction
sys.path.insert(0, sys.argv[2])
from musetalk.video.frames import FrameSource
path = sys.argv[1]
with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "250"})
    stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
    picture = np.zeros((720, 1280, 3), np.uint8)
    for number in range(250):
        picture[:, number * 4 : number * 4 + 4] = 200
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
process = psutil.Process()
with FrameSource.open(path, cache_bytes=32 << 20) as source:
    source[0:8]
    start = peak = process.memory_info().rss
    for first in range(242, -1, -8):
        source.read(range(first + 7, first - 1, -1))
        peak = max(peak, process.memory_info().rss)
print((peak - start) >> 20)
"""
    pytest.importorskip("psutil")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "clip.mp4"), str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    # 250 frames of 1.4 MB are 345 MB decoded; the budget is 32 MB, the decoder's own pool and slack the rest.
    assert int(done.stdout) < 160


def test_content_hash(tmp_path, clip_tools):
    path = clip_tools.encode(tmp_path / "clip.mp4", 5)
    with FrameSource.open(path) as source, FrameSource.open(path, fps=50) as other:
        assert source.content_hash() == other.content_hash() == source.content_hash()
        assert len(source.content_hash()) == 64
    black = np.zeros((1, 4, 6, 3), np.uint8)
    hashes = {FrameSource.from_array(frames).content_hash() for frames in (black, black.reshape(1, 6, 4, 3), black + 1)}
    assert len(hashes) == 3


def test_upstream_parity(shared):
    golden = np.load(shared / "goldens" / "sun_tiny.npz")["frames"][..., ::-1]
    with FrameSource.open(shared / "data" / "sun.mp4", parity=True) as source:
        assert len(source) == 550 and source.fps == 25
        assert np.array_equal(source[: len(golden)], golden)


def test_variable_frame_size_is_refused(tmp_path, clip_tools):
    small = clip_tools.encode(tmp_path / "a.ts", 20)
    large = clip_tools.encode(tmp_path / "b.ts", 20, size=(128, 96), ticks=range(20, 40))
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(InputError), FrameSource.open(path) as source:
        source[:]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (97, 65), (3, 50)])
def test_odd_sizes_are_read(tmp_path, clip_tools, size):
    width, height = size
    path = clip_tools.encode(
        tmp_path / "clip.mkv",
        3,
        size=size,
        codec="ffv1",
        pixel_format="bgr0",
        picture=lambda n: np.full((height, width, 3), 40 * n, np.uint8),
    )
    with FrameSource.open(path) as source:
        assert source.size == size
        assert source[:].shape == (3, height, width, 3)
        assert np.array_equal(source[2], np.full((height, width, 3), 80, np.uint8))
