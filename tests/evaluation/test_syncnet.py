"""SyncNet's plumbing, on a small network with random weights: which frames meet which sound, and how it is summed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from musetalk.audio.source import AudioSource
from musetalk.audio.sync_mel import sync_mel_window
from musetalk.audio.waveform import load_waveform
from musetalk.errors import InputError
from musetalk.evaluation import evaluate
from musetalk.evaluation.syncnet import score_sync
from musetalk.face.track import FaceTrack
from musetalk.models.syncnet import EncoderConfig, SyncNet, SyncNetConfig
from musetalk.video.frames import FrameSource

TINY = SyncNetConfig(
    visual=EncoderConfig(48, (64,) * 4, ((4, 4), (4, 4), (4, 4), (2, 4))),
    audio=EncoderConfig(1, (64,) * 3, ((4, 4), (4, 4), (5, 4))),
)


@pytest.fixture(scope="module")
def network() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(TINY).eval().requires_grad_(False)


class Oracle(SyncNet):
    """Knows when the frames were filmed by their grey value, and the sound by its loudness: vectors turn with time."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def embed_frames(self, frames: torch.Tensor) -> torch.Tensor:
        return _turned((frames.mean(dim=(1, 2, 3)) + 1) / 2)

    def embed_mel(self, mel: torch.Tensor) -> torch.Tensor:
        return _turned(_loudness(mel))


def _turned(part: torch.Tensor) -> torch.Tensor:
    angle = part * torch.pi / 2
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _loudness(mel: torch.Tensor) -> torch.Tensor:
    return (mel.mean(dim=(1, 2, 3)) + 4) / 8


def track_of(count: int, valid: np.ndarray | None = None) -> FaceTrack:
    boxes = np.tile(np.array([[4, 4, 60, 50]], np.int32), (count, 1))
    ones = np.ones(count, np.float32)
    valid = np.ones(count, bool) if valid is None else valid
    return FaceTrack(boxes, valid, None, None, ones, ones, ones)


def rising(count: int, late: int) -> tuple[FrameSource, np.ndarray]:
    """Frames that show how loud their sound is (in SyncNet's mel), with the sound delayed."""
    rng = np.random.default_rng(0)
    loud = np.repeat(np.convolve(rng.uniform(size=count + 32), np.hanning(30) / 14.5, mode="same"), 640) ** 4
    noise = rng.normal(size=len(loud))
    samples = (0.3 * loud * noise).astype(np.float32)
    shown = []
    for frame in range(count):
        mel = sync_mel_window(samples, max(frame - 8 + 16, 0))
        shown.append(float(_loudness(mel[None, None])[0]))
    grey = np.array(shown)
    frames = np.broadcast_to((grey * 255).round().astype(np.uint8)[:, None, None, None], (count, 64, 64, 3)).copy()
    return FrameSource.from_array(frames), samples[(16 - late) * 640 :]


@pytest.mark.parametrize("late", [-6, 0, 5])
def test_the_offset_is_found(late: int) -> None:
    frames, samples = rising(120, late)
    with load_waveform(AudioSource.from_array(samples, 16000)) as waveform:
        score = score_sync(Oracle(), frames, track_of(120), waveform)
    assert score.offset_frames == pytest.approx(late, abs=1)
    assert score.offset_seconds == pytest.approx(score.offset_frames / 25)
    assert score.confidence > 0 and score.similarity == pytest.approx(np.nanmax(score.curve))


def test_an_offset_that_few_windows_reach_does_not_win() -> None:
    frames, samples = rising(120, 0)
    # Sound for the first 31 frames: offsets up to 15 leave four windows, then fewer; -15 and below are before it.
    with load_waveform(AudioSource.from_array(samples[: 31 * 640], 16000)) as waveform:
        score = score_sync(Oracle(), frames, track_of(120), waveform)
    starts = range(0, 120 - 15, 4)
    judged = np.array([sum(0 <= start + offset <= 15 for start in starts) for offset in score.offsets])
    assert (np.isfinite(score.curve) == (2 * judged >= judged.max())).all()
    assert not np.isfinite(score.curve).all() and np.isfinite(score.curve).any()


def test_sound_in_pieces_has_the_columns_of_the_whole(network: SyncNet) -> None:
    from musetalk.evaluation.syncnet import _Voice

    samples = (np.random.default_rng(0).normal(size=16000 * 6) * 0.1).astype(np.float32)
    with load_waveform(AudioSource.from_array(samples, 16000)) as waveform:
        voice = _Voice(network, waveform)
        pieces = {**voice.embed(0, 20), **voice.embed(43, 60)}
    for start in (0, 7, 19, 43, 51):
        whole = network.embed_mel(sync_mel_window(samples, start)[None, None])[0].numpy()
        np.testing.assert_allclose(pieces[start], whole, atol=1e-3)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(24000, 1001)])
def test_any_rate_gives_numbers(network: SyncNet, fps: Fraction) -> None:
    count = int(2 * fps)
    frames = FrameSource.from_array(np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3)).astype(np.uint8), fps)
    samples = np.random.default_rng(1).normal(size=32000).astype(np.float32) * 0.1
    valid = np.ones(count, bool)
    valid[count // 2] = False
    with load_waveform(AudioSource.from_array(samples, 16000)) as waveform:
        score = score_sync(network, frames, track_of(count, valid), waveform)
    assert 0 < score.windows < 8
    assert np.isfinite(score.confidence) and 0 <= score.similarity <= 1.001
    assert score.offset_frames == pytest.approx(score.offset_seconds * float(fps))


def test_too_little_face_or_sound_is_told(network: SyncNet, talk: FrameSource, speech_of, drive: np.ndarray) -> None:
    few = FrameSource.from_array(talk[:10])
    assert "16 frames in a row" in evaluate(few, audio=speech_of(drive[:10]), syncnet=network).missing["syncnet"]
    short = AudioSource.from_array(np.full(1600, 0.1, np.float32), 16000)
    enough = FrameSource.from_array(talk[:20])
    assert "shorter than one window" in evaluate(enough, audio=short, syncnet=network).missing["syncnet"]
    assert evaluate(enough, syncnet=network).missing["syncnet"].startswith("no sound was given")


def test_weights_that_are_not_there_are_refused_before_any_work(talk: FrameSource, speech_of, drive, tmp_path) -> None:
    with pytest.raises(InputError, match=r"none\.pt"):
        evaluate(talk, audio=speech_of(drive), syncnet=tmp_path / "none.pt", progress=lambda *_: pytest.fail("worked"))
