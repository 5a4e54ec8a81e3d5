"""The streamed resampler: the offline samples, bit for bit, however the sound arrives."""

import math

import numpy as np
import pytest

from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import load_waveform
from musetalk.errors import InputError
from musetalk.live.resampling import StreamResampler

RATES = [8000, 16000, 22050, 24000, 32000, 44100, 48000]


def noise(samples: int) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def resampled(sound, sizes, rate, rate_out=16000):
    resampler, parts, start, packet = StreamResampler(rate, rate_out), [], 0, 0
    while start < len(sound):
        parts.append(resampler.push(sound[start : start + sizes[packet % len(sizes)]]))
        start += sizes[packet % len(sizes)]
        packet += 1
    return np.concatenate([*parts, resampler.flush()])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("sizes", [[1, 7, 333, 4096], [480], [100_000]])
def test_any_packets_give_the_offline_samples(rate, sizes):
    sound = noise(rate + 1235)
    with load_waveform(AudioSource.from_array(sound, rate)) as offline:
        expected = offline.read(0, len(offline))
    np.testing.assert_array_equal(resampled(sound, sizes, rate), expected)


@pytest.mark.parametrize(("rate", "rate_out"), [(24000, 48000), (16000, 48000), (44100, 48000), (48000, 24000)])
@pytest.mark.parametrize("samples", [0, 1, 2, 479, 30_001])
def test_lengths_are_exact_for_other_rates_too(rate, rate_out, samples):
    sound = noise(samples)
    whole = resampled(sound, [100_000], rate, rate_out)
    assert whole.dtype == np.float32
    assert len(whole) == math.ceil(samples * rate_out / rate)
    np.testing.assert_array_equal(resampled(sound, [3, 170, 1000], rate, rate_out), whole)


def test_a_tone_keeps_its_place():
    tone = np.sin(2 * np.pi * 440 * np.arange(24000) / 24000).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(resampled(tone, [480], 24000)[500:-500], expected[500:-500], atol=1e-4)


def test_flush_starts_a_new_sound():
    sound = noise(5000)
    resampler = StreamResampler(24000)
    resampler.push(noise(777))
    resampler.flush()
    again = np.concatenate([resampler.push(sound), resampler.flush()])
    np.testing.assert_array_equal(again, resampled(sound, [5000], 24000))


@pytest.mark.parametrize("rate", [0, -1, 10**7])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(InputError, match="sample rate"):
        StreamResampler(rate)
