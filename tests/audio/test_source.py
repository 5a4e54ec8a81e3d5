"""Sound from files and arrays: scaling, alignment with pictures, refusals."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from musetalk.audio.source import AudioSource
from musetalk.errors import InputError
from musetalk.video.writer import VideoWriter


def encode(
    path: Path,
    wave: np.ndarray,
    rate: int,
    *,
    codec: str = "pcm_s16le",
    form: str = "s16",
    layout: str = "mono",
    start: Fraction = Fraction(0),
    video_start: Fraction | None = None,
) -> Path:
    """Encode packed samples [n, channels]; with `video_start`, beside a second of black pictures."""
    with av.open(str(path), "w") as container:
        video = None if video_start is None else container.add_stream("libx264", rate=25)
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        if video:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            video.codec_context.time_base = Fraction(1, 25)
        packets = []
        if video:
            for number in range(25):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = number + round(video_start * 25), Fraction(1, 25)
                packets += video.encode(frame)
            packets += video.encode(None)
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format=form, layout=layout)
        frame.sample_rate = rate
        frame.pts, frame.time_base = round(start * rate), Fraction(1, rate)
        packets += [*stream.encode(frame), *stream.encode(None)]
        for packet in packets:
            container.mux(packet)
    return path


def read(source: AudioSource) -> np.ndarray:
    return np.concatenate(list(source.blocks()), axis=1)


def test_sixteen_bits_are_scaled_exactly(tmp_path):
    wave = np.array([-32768, -1, 0, 1, 32767] * 3000, np.int16)
    source = AudioSource.open(encode(tmp_path / "a.wav", wave, 44100))
    assert (source.sample_rate, source.channels, source.path) == (44100, 1, tmp_path / "a.wav")
    for _ in range(2):
        samples = read(source)
        assert samples.dtype == np.float32
        assert np.array_equal(samples[0], wave.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    "codec, form, wave, expected",
    [
        ("pcm_u8", "u8", np.array([0, 128, 192, 255], np.uint8), [-1, 0, 0.5, 127 / 128]),
        ("pcm_s24le", "s32", np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        ("pcm_s32le", "s32", np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        ("pcm_f32le", "flt", np.array([-1.5, 0.25], np.float32), [-1.5, 0.25]),
        ("pcm_f64le", "dbl", np.array([-1.5, 0.25], np.float64), [-1.5, 0.25]),
    ],
)
def test_sample_formats(tmp_path, codec, form, wave, expected):
    source = AudioSource.open(encode(tmp_path / "a.wav", wave, 8000, codec=codec, form=form))
    assert np.array_equal(read(source)[0], np.float32(expected))


@pytest.mark.parametrize("layout, channels", [("stereo", 2), ("5.1", 6), ("7.1", 8)])
@pytest.mark.parametrize("codec, suffix", [("pcm_s16le", ".wav"), ("flac", ".flac"), ("libopus", ".mkv")])
def test_channels_are_kept_apart(tmp_path, layout, channels, codec, suffix):
    time = np.arange(48000)[:, None] / 48000
    wave = (8000 * np.sin(2 * np.pi * 50 * (np.arange(channels) + 2) * time)).astype(np.int16)
    source = AudioSource.open(encode(tmp_path / f"a{suffix}", wave, 48000, codec=codec, layout=layout))
    assert source.channels == channels
    heard, expected = read(source), wave.T.astype(np.float32) / 32768
    if codec == "libopus":
        kept = [c for c in range(channels) if c != 3]  # Opus narrows the low-frequency channel
        for c in kept:
            assert np.corrcoef(heard[c, 1000:40000], expected[c, 1000:40000])[0, 1] > 0.9
    else:
        assert np.array_equal(heard, expected)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(
    "start, video_start",
    [(Fraction(0), Fraction(0)), (Fraction(1, 2), Fraction(0)), (Fraction(0), Fraction(2, 5))],
)
def test_sound_lines_up_with_the_first_picture(tmp_path, suffix, start, video_start):
    wave = np.zeros(48000, np.int16)
    wave[24000:24300] = 30000
    path = encode(tmp_path / f"a{suffix}", wave, 48000, codec="aac", start=start, video_start=video_start, form="s16")
    loud = np.flatnonzero(np.abs(read(AudioSource.open(path))[0]) > 0.4)
    assert abs(loud[0] / 48000 - float(Fraction(1, 2) + start - video_start)) < 0.002


@pytest.mark.parametrize(
    "suffix, codec", [(".m4a", "aac"), (".mp3", "libmp3lame"), (".flac", "flac"), (".ogg", "libopus")]
)
def test_encoder_padding_is_left_out(tmp_path, suffix, codec):
    wave = np.zeros(48000, np.int16)
    wave[12000:12300] = 30000
    source = AudioSource.open(encode(tmp_path / f"a{suffix}", wave, 48000, codec=codec))
    samples = read(source)[0]
    assert 0 <= len(samples) - 48000 < 1024 if suffix == ".m4a" else len(samples) == 48000
    assert abs(np.flatnonzero(np.abs(samples) > 0.4)[0] - 12000) < 60


@pytest.mark.parametrize("kind", ["numpy", "float64", "torch"])
def test_arrays(kind):
    wave = np.random.default_rng(0).uniform(-1, 1, (2, 200_001)).astype(np.float32)
    given = wave.astype(np.float64) if kind == "float64" else wave
    if kind == "torch":
        given = pytest.importorskip("torch").from_numpy(wave)
    source = AudioSource.from_array(given, 44100)
    assert (source.sample_rate, source.channels, source.path) == (44100, 2, None)
    blocks = list(source.blocks())
    assert len(blocks) > 1 and {block.dtype for block in blocks} == {np.dtype(np.float32)}
    assert np.array_equal(np.concatenate(blocks, axis=1), wave)
    assert AudioSource.from_array(given[0], 16000).channels == 1


@pytest.mark.parametrize(
    "wave, rate, message",
    [
        (np.zeros(0, np.float32), 16000, "no samples"),
        (np.zeros((2, 0), np.float32), 16000, "no samples"),
        (np.zeros(10, np.int16), 16000, "floating-point"),
        (np.zeros((1, 2, 10), np.float32), 16000, "floating-point"),
        (np.zeros((1000, 2), np.float32), 16000, r"\[C, T\]"),
        (np.zeros(10, np.float32), 0, "sample_rate=0"),
        (np.zeros(10, np.float32), 44100.5, "sample_rate=44100.5"),
    ],
)
def test_arrays_that_are_no_sound(wave, rate, message):
    with pytest.raises(InputError, match=message):
        AudioSource.from_array(wave, rate)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_named_by_time(tmp_path, value):
    wave = np.zeros(160_000, np.float32)
    wave[100_000] = value
    path = encode(tmp_path / "a.wav", wave, 16000, codec="pcm_f32le", form="flt")
    for source in (AudioSource.from_array(wave, 16000), AudioSource.open(path)):
        with pytest.raises(InputError, match=r"not a finite number at 6\.250 s"):
            read(source)


def test_files_that_hold_no_sound(tmp_path):
    silent, text, empty, header = (tmp_path / name for name in ("silent.mp4", "text.wav", "empty.wav", "header.wav"))
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    text.write_text("no sound at all\n" * 100)
    empty.touch()
    encode(header, np.zeros(100, np.int16), 16000)
    data = header.read_bytes()
    start = data.index(b"data") + 4
    header.write_bytes(data[:start] + bytes(4))
    for path, message in [
        (silent, "has no sound"),
        (text, "cannot be read"),
        (empty, "is empty"),
        (header, "without samples|cannot be read"),
        (tmp_path / "missing.wav", "does not exist"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            AudioSource.open(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize("samples", [16000, 16001, 20479, 20480, 20481])
def test_what_aac_fills_up_is_left_out(tmp_path, samples):
    sound = AudioSource.from_array(np.full(samples, 0.1, np.float32), 16000)
    with VideoWriter(tmp_path / "clip.mp4", 16, 16, Fraction(16000, samples), audio=sound) as writer:
        writer.write(np.zeros((1, 16, 16, 3), np.uint8))
    assert sum(block.shape[1] for block in AudioSource.open(tmp_path / "clip.mp4").blocks()) == samples
