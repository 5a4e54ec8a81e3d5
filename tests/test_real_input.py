"""A real talking video and real voices, in the rates and sizes people have, from file to file."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from musetalk import FrameSource, lipsync
from musetalk.audio.source import AudioSource
from musetalk.playback import source_index

SECONDS = Fraction(6, 5)


@pytest.fixture(scope="module")
def source_frames(shared):
    with FrameSource.open(shared / "data" / "sun.mp4") as source:
        return source[:24]


@pytest.fixture(scope="module")
def voice(shared):
    samples = np.concatenate(list(AudioSource.open(shared / "data" / "eng.wav").blocks()), axis=1)
    return AudioSource.from_array(samples[:, : int(SECONDS * 16000)], 16000)


def encode(path: Path, frames, pts: list[int], time_base: Fraction, rate: Fraction, size=None) -> Path:
    """Write frames at the given times, as any camera or editor might."""
    height, width = frames.shape[1:3]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "ultrafast"})
        stream.width, stream.height = size or (width, height)
        stream.codec_context.time_base = time_base
        for picture, time in zip(frames, pts, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def check(models, clip: Path, voice, tmp_path: Path, fps: Fraction | None, size: tuple[int, int]):
    report = lipsync(models, clip, voice, tmp_path / "out.mp4", preset="ultrafast", crf=14)
    with FrameSource.open(report.output) as output, FrameSource.open(clip) as footage:
        assert output.fps == footage.fps and (fps is None or output.fps == fps)
        assert len(output) == report.frames == SECONDS * output.fps // 1
        assert output.size == footage.size == size
        assert report.speakers[0].passed == ()
        # The mouth has changed; a corner of the wall has not, beyond one more encode.
        first, last = output[0].astype(int), output[len(output) - 1].astype(int)
        sources = footage[0].astype(int), footage[source_index(len(output) - 1, len(footage))].astype(int)
        x, y = int(size[0] * 0.48), int(size[1] * 0.39)
        for seen, original in zip((first, last), sources, strict=True):
            assert np.abs(seen[:60, :60] - original[:60, :60]).mean() < 3
            assert (
                np.abs(seen[y - 10 : y + 10, x - 20 : x + 20] - original[y - 10 : y + 10, x - 20 : x + 20]).mean() > 8
            )


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_constant_rates(mesh_models, source_frames, voice, tmp_path, fps):
    clip = encode(tmp_path / "clip.mp4", source_frames, list(range(24)), 1 / fps, fps)
    check(mesh_models, clip, voice, tmp_path, fps, (576, 768))


def test_full_hd(mesh_models, source_frames, voice, tmp_path):
    frames = np.pad(source_frames, ((0, 0), (156, 156), (672, 672), (0, 0)))
    clip = encode(tmp_path / "clip.mp4", frames, list(range(24)), Fraction(1, 25), Fraction(25))
    report = lipsync(mesh_models, clip, voice, tmp_path / "out.mp4", preset="ultrafast")
    assert (report.width, report.height, report.frames, report.speakers[0].passed) == (1920, 1080, 30, ())


def test_variable_rate_plays_at_its_own_speed(mesh_models, source_frames, voice, tmp_path):
    # As a phone in the dark: 30 fps, then 15 fps.
    times = [3000 * i for i in range(12)] + [36000 + 6000 * i for i in range(12)]
    clip = encode(tmp_path / "clip.mp4", source_frames, times, Fraction(1, 90000), Fraction(30))
    with FrameSource.open(clip) as footage:
        seconds = len(footage) / footage.fps
        # Half-way through the slow part the screen shows the frame that was recorded then.
        shown = footage[int(Fraction(9, 10) * footage.fps)]
        others = np.abs(source_frames.astype(int) - shown).mean(axis=(1, 2, 3))
    assert abs(seconds - Fraction(12, 10)) <= Fraction(1, 10)
    assert int(others.argmin()) in (12 + 6, 12 + 7, 12 + 8)
    report = lipsync(mesh_models, clip, voice, tmp_path / "out.mp4", preset="ultrafast")
    assert report.frames == SECONDS * report.fps // 1


def test_a_real_voice_of_a_minute_and_the_whole_clip_open(shared):
    with FrameSource.open(shared / "data" / "sun.mp4") as source:
        assert (len(source), source.fps, source.size) == (550, 25, (576, 768))
    sound = AudioSource.open(shared / "data" / "sun.wav")
    assert sum(block.shape[1] for block in sound.blocks()) == 991764
