"""Streamed features: the same bits for every packetisation, and the offline ones where all of the sound is known."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from musetalk.audio.features import audio_features
from musetalk.audio.mel import log_mel
from musetalk.errors import InputError
from musetalk.live.running_mel import RunningMel
from musetalk.live.streaming import FeatureStream, encode_states, silence_window
from musetalk.models.audio_encoder import WhisperConfig, WhisperEncoder

RATE = 16000
CELL = 30 * RATE
RATES = [Fraction(24000, 1001), 25, Fraction(30000, 1001), 60, 5, Fraction(25, 2)]


@pytest.fixture(scope="module")
def models(tiny_models):
    """The tiny models with an audio encoder of one thin layer: the same computation in a twentieth of the time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = WhisperEncoder(WhisperConfig(channels=16, heads=1, layers=1, ffn_channels=32))
    return replace(tiny_models, audio_encoder=encoder.eval().requires_grad_(False))


def speech_like(samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness comes and goes, now and then to silence, and grows."""
    time = np.arange(samples) / RATE
    loudness = np.maximum(0, np.sin(2 * np.pi * 1.7 * time) + 0.3) * (0.02 + 0.1 * time / max(1.0, samples / RATE))
    return (loudness * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def stream(models, sound, sizes, fps=25, **options):
    """All frames of a sound pushed in packets of the given sizes, over and over, then flushed."""
    features, frames, start, packet = FeatureStream(models, fps, **options), [], 0, 0
    while start < len(sound):
        frames += features.push(sound[start : start + sizes[packet % len(sizes)]])
        start += sizes[packet % len(sizes)]
        packet += 1
    return frames + features.flush()


def assert_same(frames, expected):
    assert [(frame.index, frame.ready_after) for frame in frames] == [(e.index, e.ready_after) for e in expected]
    assert all(torch.equal(frame.window, e.window) for frame, e in zip(frames, expected, strict=True))


def joined(frames) -> torch.Tensor:
    return torch.stack([frame.window for frame in frames])


@pytest.mark.parametrize("thinned", [False, True])
@pytest.mark.parametrize("sizes", [[160], [320, 1, 4096, 7], [10_000, 1, 1], [480]])
def test_any_packets_give_the_same_bits(models, sizes, thinned):
    sound = speech_like(RATE + 333)
    frames = stream(models, sound, sizes, thinned=thinned)
    assert [frame.index for frame in frames] == list(range(25))
    assert_same(frames, stream(models, sound, [len(sound)], thinned=thinned))


@pytest.mark.parametrize("fps", RATES)
def test_waiting_for_the_end_equals_offline(models, fps):
    sound = speech_like(RATE * 2 + 777)
    frames = stream(models, sound, [3000], fps, context_ms=math.inf)
    assert torch.equal(joined(frames), audio_features(models, sound, RATE, fps))


@pytest.mark.parametrize("thinned", [False, True])
@pytest.mark.parametrize("fps", RATES)
def test_what_is_left_at_the_end_equals_offline(models, fps, thinned):
    sound = speech_like(RATE * 2 + 777)
    features = FeatureStream(models, fps, hop_frames=5, thinned=thinned)
    early, late = features.push(sound), features.flush()
    offline = audio_features(models, sound, RATE, fps)
    assert early and late
    assert [frame.index for frame in early + late] == list(range(len(offline)))
    assert torch.equal(joined(late), offline[len(early) :])
    assert all(frame.ready_after == len(sound) for frame in late)


@pytest.mark.parametrize("context_ms", [0, 40, 200])
def test_a_frame_is_that_of_the_sound_up_to_its_hop(models, context_ms):
    sound = speech_like(RATE)
    for frame in stream(models, sound, [500], context_ms=context_ms, hop_frames=3)[::4]:
        offline = audio_features(models, sound[: frame.ready_after], RATE)
        torch.testing.assert_close(frame.window, offline[frame.index], rtol=1e-5, atol=1e-5)


def test_later_sound_changes_nothing(models):
    sound, other = speech_like(RATE), speech_like(RATE, seed=1)
    frame = stream(models, sound, [RATE])[9]
    other[: frame.ready_after] = sound[: frame.ready_after]
    assert torch.equal(stream(models, other, [RATE])[9].window, frame.window)


@pytest.mark.parametrize(("fps", "context_ms", "needed"), [(25, 0, 2120), (25, 40, 2760), (60, 0, 2120), (5, 0, 3200)])
def test_the_first_frame_comes_with_its_last_sample(models, fps, context_ms, needed):
    features = FeatureStream(models, fps, context_ms)
    assert features.push(speech_like(needed - 1)) == []
    (frame,) = features.push(speech_like(1))
    assert (frame.index, frame.ready_after) == (0, needed)


def test_a_window_depends_on_no_sample_past_its_reach(models):
    """With no context the states that attention has not mixed are final: 132.5 ms is all a window of them needs."""
    sound = speech_like(RATE)
    sound[:640] += np.sin(np.arange(640)).astype(np.float32)  # the loudest comes first: the mel's floor stays
    frames = stream(models, sound, [RATE], context_ms=0, hop_frames=1)[:20]
    assert [frame.ready_after for frame in frames] == [640 * i + 2120 for i in range(20)]
    unmixed = slice(0, None, 2)
    offline = audio_features(models, sound, RATE)
    torch.testing.assert_close(joined(frames)[:, unmixed], offline[:20, unmixed], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("thinned", [False, True])
def test_cells_of_30_seconds_follow_offline(models, thinned):
    sound = speech_like(CELL + RATE)
    features = FeatureStream(models, hop_frames=10, thinned=thinned)
    frames = [frame for start in range(0, len(sound), 4800) for frame in features.push(sound[start : start + 4800])]
    across = next(frame for frame in frames if frame.index == 751)
    assert across.ready_after > CELL
    near = 0.2 if thinned else 1e-5
    offline = audio_features(models, sound[: across.ready_after], RATE)[751]
    torch.testing.assert_close(across.window, offline, rtol=near, atol=near)
    assert len(features._cells) == len(features._states) == 1
    late = features.flush()
    assert torch.equal(joined(late), audio_features(models, sound, RATE)[len(frames) :])
    assert_same(frames + late, stream(models, sound, [len(sound)], hop_frames=10, thinned=thinned))


@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001)])
@pytest.mark.parametrize("samples", [2 * CELL, 2 * CELL + 700])
def test_long_sounds_wait_and_equal_offline(models, fps, samples):
    sound = speech_like(samples)
    frames = stream(models, sound, [100_000], fps, context_ms=math.inf)
    assert torch.equal(joined(frames), audio_features(models, sound, RATE, fps))


@pytest.mark.parametrize("thinned", [False, True])
@pytest.mark.parametrize("samples", [CELL - 1, CELL, CELL + 1])
def test_sounds_that_end_on_the_edge_of_a_cell(models, samples, thinned):
    sound = speech_like(samples)
    features = FeatureStream(models, hop_frames=300, thinned=thinned)
    early, late = features.push(sound), features.flush()
    assert torch.equal(joined(late), audio_features(models, sound, RATE)[len(early) :])


@pytest.mark.parametrize("samples", [1, 100, 639, 640, 2119])
def test_very_short_sounds_equal_offline(models, samples):
    sound = speech_like(samples) + np.float32(0.01)
    assert torch.equal(joined(stream(models, sound, [64])), audio_features(models, sound, RATE))


def test_no_sound_no_frames(models):
    features = FeatureStream(models)
    assert features.push(np.zeros(0, np.float32)) == []
    assert features.flush() == []


def test_silence_is_the_window_of_silence(models):
    silence = silence_window(models)
    frames = stream(models, np.zeros(2 * RATE, np.float32), [RATE])
    assert all(torch.isfinite(frame.window).all() for frame in frames)
    torch.testing.assert_close(frames[27].window, silence, rtol=1e-5, atol=1e-5)


def test_reset_starts_an_utterance_afresh(models):
    sound = speech_like(RATE)
    features = FeatureStream(models)
    features.push(speech_like(RATE // 2, seed=3))
    features.reset()
    assert_same(features.push(sound) + features.flush(), stream(models, sound, [len(sound)]))


def test_asking_late_changes_nothing(models):
    sound = speech_like(RATE)
    features = FeatureStream(models)
    features.feed(sound)
    features.finish()
    frames = []
    while (waiting := features.prepare()) is not None:
        frames += features.accept(waiting, encode_states(models, waiting.mel[None])[0])
    assert_same(frames, stream(models, sound, [700]))


def test_streams_are_encoded_together(models):
    sounds = [speech_like(RATE, seed=seed) for seed in range(3)]
    streams = [FeatureStream(models) for _ in sounds]
    frames = [[] for _ in sounds]
    for features, sound in zip(streams, sounds, strict=True):
        features.feed(sound)
        features.finish()
    while waiting := [(i, request) for i, features in enumerate(streams) if (request := features.prepare())]:
        states = encode_states(models, torch.stack([request.mel for _, request in waiting]))
        for (i, request), answer in zip(waiting, states, strict=True):
            frames[i] += streams[i].accept(request, answer)
    for sound, together in zip(sounds, frames, strict=True):
        torch.testing.assert_close(joined(together), joined(stream(models, sound, [RATE])), rtol=1e-5, atol=1e-5)


def test_answers_in_flight_keep_their_order_and_die_with_the_utterance(models):
    features = FeatureStream(models)
    features.feed(speech_like(RATE))
    first, second = features.prepare(), features.prepare()
    states = encode_states(models, torch.stack([first.mel, second.mel]))
    with pytest.raises(InputError, match="order"):
        features.accept(second, states[1])
    assert [frame.index for frame in features.accept(first, states[0])] == [0]
    features.reset()
    assert features.accept(second, states[1]) == []


@pytest.mark.parametrize(
    "options", [{"fps": 0}, {"fps": 241}, {"context_ms": -1}, {"context_ms": math.nan}, {"hop_frames": 0}]
)
def test_options_out_of_range_are_refused(models, options):
    with pytest.raises(InputError, match=next(iter(options))):
        FeatureStream(models, **options)


@pytest.mark.parametrize("samples", [np.array([0.0, np.nan]), np.array([np.inf]), np.zeros((1, 5))])
def test_sound_that_cannot_be_heard_is_refused_and_forgotten(models, samples):
    sound = speech_like(RATE // 2)
    features = FeatureStream(models)
    with pytest.raises(InputError, match="finite mono"):
        features.push(samples)
    assert_same(features.push(sound) + features.flush(), stream(models, sound, [len(sound)]))
    with pytest.raises(InputError, match="reset"):
        features.push(sound)


@pytest.mark.parametrize("lengths", [[2120, 2760, 4040, 160_000, 479_700, 479_999, 480_000], [1, 39, 41, 200, 561]])
def test_the_running_mel_is_the_mel_of_every_beginning(lengths):
    sound = speech_like(CELL)
    mel = RunningMel()
    for length in lengths:
        torch.testing.assert_close(mel.of(sound[:length]), log_mel(sound[:length]), rtol=1e-5, atol=1e-5)
    assert mel.of(sound).equal(log_mel(sound))
