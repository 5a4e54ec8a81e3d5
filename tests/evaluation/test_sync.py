"""Lips and sound: does the measure follow a known mouth, and find a known offset?"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import load_waveform
from musetalk.evaluation import Evaluation, evaluate
from musetalk.evaluation.correlation import correlate, pearson
from musetalk.evaluation.loudness import find_silence, measure_loudness
from musetalk.video.frames import FrameSource


def test_the_opening_follows_the_mouth(against_itself: Evaluation, drive: np.ndarray) -> None:
    assert np.corrcoef(against_itself.series.opening, drive)[0, 1] > 0.9


def test_a_clip_in_sync_has_no_offset(against_itself: Evaluation) -> None:
    sync = against_itself.sync
    assert sync is not None and sync.offset_frames is not None
    assert sync.correlation > 0.8
    assert abs(sync.offset_frames) < 1


@pytest.mark.parametrize("late", range(-4, 7))
def test_late_sound_is_found(against_itself: Evaluation, drive: np.ndarray, clips, late: int) -> None:
    waveform = load_waveform(AudioSource.from_array(clips.voice(drive, late), 16000))
    loudness = measure_loudness(waveform, Fraction(25), len(drive))
    curve = correlate(against_itself.series.opening, loudness.articulation)
    assert curve is not None and curve.doubt is None
    assert curve.lag == pytest.approx(late, abs=1)


def test_late_sound_is_found_in_a_file_and_shown_in_seconds(talk: FrameSource, drive: np.ndarray, speech_of) -> None:
    sync = evaluate(talk, audio=speech_of(drive, 5)).sync
    assert sync is not None and sync.offset_seconds is not None
    assert sync.offset_frames == pytest.approx(5, abs=1)
    assert sync.offset_seconds == pytest.approx(sync.offset_frames / 25)


def test_another_voice_gives_no_offset(talk: FrameSource, clips, speech_of) -> None:
    found = evaluate(talk, audio=speech_of(clips.syllables(len(talk), seed=5)))
    assert found.sync is not None and found.sync.offset_frames is None
    assert found.sync.best < found.sync.chance
    assert "chance" in found.missing["sync.offset_frames"]


def test_chance_is_rarely_passed_by_unrelated_series() -> None:
    rng = np.random.default_rng(1)
    window = np.hanning(7)
    passed = 0
    for _ in range(200):
        a, b = (np.convolve(rng.normal(size=300), window, mode="same") for _ in range(2))
        curve = correlate(a, b)
        assert curve is not None
        passed += curve.best >= curve.chance
    assert passed <= 8


@pytest.mark.parametrize("lag", [-3.4, 0.0, 2.5])
def test_the_lag_is_found_between_frames(lag: float) -> None:
    time = np.arange(200)
    waves = [(hertz, phase) for hertz, phase in zip((0.13, 0.21, 0.34), (0.0, 1.0, 2.0), strict=True)]
    a, b = (sum(np.sin(hertz * (time - late) + phase) for hertz, phase in waves) for late in (0.0, lag))
    curve = correlate(a, b)
    assert curve is not None
    assert curve.lag == pytest.approx(lag, abs=0.1)


def test_a_peak_at_the_end_is_doubted() -> None:
    rng = np.random.default_rng(0)
    a = np.convolve(rng.normal(size=400), np.hanning(9), mode="same")
    curve = correlate(a, np.roll(a, 15))
    assert curve is not None and curve.doubt is not None and "+15" in curve.doubt


def test_unknown_frames_do_not_count() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 100))
    holes = a.copy()
    holes[20:30] = np.nan
    kept = np.isfinite(holes)
    assert pearson(holes, b) == pytest.approx(np.corrcoef(a[kept], b[kept])[0, 1])
    assert pearson(np.full(100, np.nan), b) is None
    assert pearson(np.ones(100), b) is None


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(12)])
def test_loudness_rises_where_the_voice_does(fps: Fraction) -> None:
    time = np.arange(3 * 44100) / 44100
    voice = np.where((time >= 1) & (time < 2), 0.3 * np.sin(2 * np.pi * 800 * time), 0).astype(np.float32)
    frames = int(3 * fps)
    loudness = measure_loudness(load_waveform(AudioSource.from_array(voice, 44100)), fps, frames)
    middle = (np.arange(frames) + 0.5) / float(fps)
    assert loudness.articulation[(middle > 1.2) & (middle < 1.8)].min() > 0.95
    assert loudness.articulation[(middle < 0.8) | (middle > 2.2)].max() < 0.05
    assert loudness.silent[(middle < 0.8) | (middle > 2.2)].all()
    assert not loudness.silent[(middle > 0.95) & (middle < 2.05)].any()


def test_loudness_is_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch, clips) -> None:
    from musetalk.evaluation import loudness

    waveform = load_waveform(AudioSource.from_array(clips.voice(clips.syllables(90)), 16000))
    whole = measure_loudness(waveform, Fraction(25), 90)
    monkeypatch.setattr(loudness, "_FRAMES_AT_ONCE", 7)
    pieces = measure_loudness(waveform, Fraction(25), 90)
    np.testing.assert_allclose(whole.level, pieces.level, atol=1e-9)


def test_hum_and_hiss_are_no_voice() -> None:
    time = np.arange(32000) / 16000
    hum = (0.3 * np.sin(2 * np.pi * 50 * time)).astype(np.float32)
    loudness = measure_loudness(load_waveform(AudioSource.from_array(hum, 16000)), Fraction(25), 50)
    assert np.median(loudness.level) < -60
    past_the_end = measure_loudness(load_waveform(AudioSource.from_array(hum, 16000)), Fraction(25), 60)
    assert np.isnan(past_the_end.level[50:]).all() and not past_the_end.silent[50:].any()


def test_short_gaps_are_speech() -> None:
    level = np.full(60, -10.0)
    level[10:16] = -90  # 0.24 s
    level[30:45] = -90  # 0.6 s, less 0.12 s at both ends
    silent = find_silence(level, Fraction(25))
    assert np.flatnonzero(silent).tolist() == list(range(33, 42))
