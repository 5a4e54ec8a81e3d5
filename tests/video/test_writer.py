"""One encode: exact frames, rates and durations, sound beside them, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from musetalk.audio.source import AudioSource
from musetalk.errors import InputError, OutputError
from musetalk.video.frames import FrameSource
from musetalk.video.writer import VideoWriter

SIZE = (96, 64)
RATES = [Fraction(n * 1000, 1001) for n in (24, 30, 60)] + [Fraction(n) for n in (24, 25, 30, 50, 60)]


def tone(rate: int, samples: int, channels: int = 1) -> AudioSource:
    time = np.arange(samples) / rate
    wave = np.stack([0.3 * np.sin(2 * np.pi * 220 * (c + 1) * time) for c in range(channels)])
    return AudioSource.from_array(wave.astype(np.float32), rate)


def numbered(clip_tools, count, size=SIZE):
    return np.stack([clip_tools.draw(n, *size) for n in range(count)])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def heard(path) -> np.ndarray:
    return np.concatenate(list(AudioSource.open(path).blocks()), axis=1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rate", RATES)
def test_exact_frames_and_rate(tmp_path, clip_tools, rate, suffix):
    path = tmp_path / f"clip{suffix}"
    frames = numbered(clip_tools, 31)
    with VideoWriter(path, *SIZE, rate, preset="veryfast") as writer:
        for start in range(0, 31, 7):
            writer.write(frames[start : start + 7])
        assert not path.exists()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert not container.streams.audio
        if suffix != ".mkv":
            assert stream.average_rate == rate
            assert stream.duration * stream.time_base == 31 / rate
    with FrameSource.open(path) as source:
        assert (source.fps, source.size) == (rate, SIZE)
        assert clip_tools.numbers_of(source[:]) == list(range(31))
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("samples", [17, 1024, 33333, 90001])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_sound_is_as_long_as_the_pictures(tmp_path, clip_tools, fps, samples, rate, suffix):
    path = tmp_path / f"clip{suffix}"
    count = max(1, int(samples * fps / rate))
    with VideoWriter(path, *SIZE, fps, audio=tone(rate, samples), preset="ultrafast") as writer:
        for start in range(0, count, 16):
            writer.write(numbered(clip_tools, min(16, count - start)))
    sound = AudioSource.open(path)
    assert (sound.sample_rate, sound.channels) == (rate, 1)
    length = sum(block.shape[1] for block in sound.blocks())
    wanted = max(samples, int(count / fps * rate))
    slack = 1024 if suffix == ".mp4" else 2048  # a decoder gives the last AAC frame whole, and MKV may hold one more
    assert wanted <= length < wanted + slack
    if suffix == ".mp4":
        with av.open(str(path)) as container:
            audio, video = container.streams.audio[0], container.streams.video[0]
            seconds = audio.duration * audio.time_base
            assert abs(seconds - Fraction(wanted, rate)) <= Fraction(1, 1000)  # MP4 keeps it in milliseconds
            assert abs(seconds - video.duration * video.time_base) <= 1 / fps


def test_sound_lines_up_with_the_pictures(tmp_path, clip_tools):
    wave = np.zeros(48000, np.float32)
    wave[24000:24200] = 0.9
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, *SIZE, Fraction(25), audio=AudioSource.from_array(wave, 48000)) as writer:
        writer.write(numbered(clip_tools, 25))
    found = np.flatnonzero(np.abs(heard(path)[0]) > 0.45)
    assert abs(found[0] - 24000) < 48 and abs(found[-1] - 24199) < 48


@pytest.mark.parametrize("duration", [Fraction(1, 2), Fraction(1), Fraction(3, 2)])
def test_sound_is_cut_or_continued_to_the_duration_asked_for(tmp_path, clip_tools, duration):
    path = tmp_path / "clip.mp4"
    audio = tone(16000, 16000)
    with VideoWriter(path, *SIZE, Fraction(25), audio=audio, audio_duration=duration) as writer:
        writer.write(numbered(clip_tools, 25))
    wave = heard(path)[0]
    assert duration * 16000 <= len(wave) < duration * 16000 + 1024
    assert np.abs(wave[2000:7000]).max() > 0.2
    assert duration <= 1 or np.abs(wave[18000:]).max() < 0.01


@pytest.mark.parametrize(
    "rate, channels, kept_rate, kept",
    [
        (44100, 2, 44100, 2),
        (48000, 6, 48000, 6),
        (48000, 8, 48000, 6),
        (16000, 10, 16000, 1),
        (11000, 1, 11025, 1),
        (192000, 2, 96000, 2),
        (4000, 1, 8000, 1),
        (48000, 3, 48000, 3),
    ],
)
def test_rates_and_channels_aac_does_not_have(tmp_path, clip_tools, rate, channels, kept_rate, kept):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, *SIZE, Fraction(25), audio=tone(rate, rate, channels), preset="ultrafast") as writer:
        writer.write(numbered(clip_tools, 25))
    sound = AudioSource.open(path)
    assert (sound.sample_rate, sound.channels) == (kept_rate, kept)
    wave = heard(path)
    assert abs(wave.shape[1] - kept_rate) < kept_rate / 25
    assert np.abs(wave[0, 1000:-1000]).max() > 0.05


@pytest.mark.parametrize("size", [(1, 1), (97, 65), (96, 65), (33, 64)])
def test_odd_sizes_are_continued_by_their_edge(tmp_path, size):
    width, height = size
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 1, 3), dtype=np.uint8).repeat(height, 1).repeat(width, 2)
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, width, height, Fraction(25), crf=1) as writer:
        writer.write(frames)
    with FrameSource.open(path) as source:
        assert source.size == (width + width % 2, height + height % 2)
        assert np.abs(source[:][:, :height, :width].astype(int) - frames).max() < 8
        assert np.abs(source[:][:, -1:, -1:].astype(int) - frames[:, -1:, -1:]).max() < 8


def test_mp4_starts_fast_and_keeps_metadata(tmp_path, clip_tools):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, *SIZE, Fraction(25), metadata={"title": "one", "workflow": '{"a": 1}'}) as writer:
        writer.write(numbered(clip_tools, 3))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "one"
        assert container.metadata["workflow"] == '{"a": 1}'


@pytest.mark.parametrize("how", ["exception", "abort", "bad frames", "bad sound", "no frames"])
def test_nothing_is_left_behind(tmp_path, clip_tools, how):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"the old one")
    wave = np.zeros(16000, np.float32)
    wave[6000] = np.nan if how == "bad sound" else 0
    expected = {
        "exception": KeyError,
        "bad frames": InputError,
        "bad sound": InputError,
        "no frames": OutputError,
    }
    audio = AudioSource.from_array(wave, 16000)
    writer = VideoWriter(path, *SIZE, Fraction(25), audio=audio, overwrite=True)
    if how == "abort":
        writer.write(numbered(clip_tools, 3))
        writer.abort()
        writer.close()
    else:
        with pytest.raises(expected[how]), writer:
            if how != "no frames":
                writer.write(numbered(clip_tools, 25))
            if how == "exception":
                raise KeyError("anything")
            if how == "bad frames":
                writer.write(np.zeros((1, 64, 90, 3), np.uint8))
    assert names(tmp_path) == ["clip.mp4"]
    assert path.read_bytes() == b"the old one"
    with pytest.raises(InputError, match="closed"):
        writer.write(numbered(clip_tools, 1))


def test_targets_are_checked_before_any_work(tmp_path):
    there, folder = tmp_path / "there.mp4", tmp_path / "folder.mp4"
    there.touch()
    folder.mkdir()
    for path, message in [
        (there, "exists"),
        (folder, "is a folder"),
        (tmp_path / "none" / "clip.mp4", "does not exist"),
        (there / "clip.mp4", "does not exist"),
        (tmp_path / "clip.txt", "suffix"),
        (tmp_path / "clip", "suffix"),
        (tmp_path / f"{'long' * 70}.mp4", "too long"),
    ]:
        for check in (lambda p: VideoWriter.check_target(p), lambda p: VideoWriter(p, *SIZE, Fraction(25))):
            with pytest.raises(OutputError, match=message):
                check(path)
    with pytest.raises(OutputError, match="is a folder"):
        VideoWriter.check_target(folder, overwrite=True)
    VideoWriter.check_target(there, overwrite=True)
    VideoWriter.check_target(str(tmp_path / "clip.mkv"))
    assert names(tmp_path) == ["folder.mp4", "there.mp4"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_takes_no_files(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="cannot write in the folder"):
        VideoWriter.check_target(tmp_path / "clip.mp4")
    tmp_path.chmod(0o755)


def test_a_target_that_appears_meanwhile_is_kept(tmp_path, clip_tools):
    path = tmp_path / "clip.mp4"
    with pytest.raises(OutputError, match="exists"), VideoWriter(path, *SIZE, Fraction(25)) as writer:
        writer.write(numbered(clip_tools, 3))
        path.write_bytes(b"someone else's")
    assert names(tmp_path) == ["clip.mp4"] and path.read_bytes() == b"someone else's"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"codec": "nonsense"}, "codec 'nonsense' is not in this PyAV; use one of libx264"),
        ({"codec": "aac"}, "pixel_format"),
        ({"pixel_format": "nonsense"}, "pixel_format 'nonsense'; use one of yuv420p"),
        ({"preset": "nonsense"}, "preset=nonsense"),
        ({"crf": 99}, "crf=99"),
        ({"fps": Fraction(0)}, "fps"),
        ({"width": 0}, "0x64"),
        ({"width": 20000}, "20000x64"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    arguments = {"width": 96, "height": 64, "fps": Fraction(25)} | options
    with pytest.raises(InputError, match=message):
        VideoWriter(tmp_path / "clip.mp4", **arguments)
    assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit to simulate a full disk with")
@pytest.mark.parametrize("limit", [20_000, 150_000])
def test_a_full_disk(tmp_path, limit):
    script = """
import resource, signal, sys
from fractions import Fraction
import numpy as np
sys.path.insert(0, sys.argv[2])
from musetalk.errors import OutputError
from musetalk.video.writer import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
noise = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), dtype=np.uint8)
try:
    with VideoWriter(sys.argv[1], 128, 128, Fraction(25), preset="ultrafast") as writer:
        for _ in range(20):
            writer.write(noise)
except OutputError as error:
    print("refused:", error)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "clip.mp4"), str(root), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("refused: cannot write")
    assert names(tmp_path) == []


def test_long_sound_is_not_read_ahead(tmp_path, clip_tools):
    """Sound is pulled as the pictures need it, so its memory does not grow with its length."""
    pulled = []

    class Endless(AudioSource):
        sample_rate, channels, path = 16000, 1, None

        def _blocks(self):
            while True:
                pulled.append(1)
                yield np.zeros((1, 1600), np.float32)

    with VideoWriter(tmp_path / "clip.mp4", *SIZE, Fraction(25), audio=Endless(), preset="ultrafast") as writer:
        for _ in range(4):
            writer.write(numbered(clip_tools, 25))
    assert len(pulled) <= 42
