"""Several sounds as one."""

import numpy as np
import pytest

from musetalk.audio.mixing import MixedAudio
from musetalk.audio.source import AudioSource


def whole(source: AudioSource) -> np.ndarray:
    return np.concatenate(list(source.blocks()), axis=1)


def tone(seconds: float, rate: int, hertz: float, channels: int = 1, level: float = 0.3) -> AudioSource:
    time = np.arange(round(seconds * rate)) / rate
    wave = (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    return AudioSource.from_array(np.tile(wave, (channels, 1)), rate)


def test_equal_rates_are_added_sample_by_sample() -> None:
    one, two = tone(10, 16000, 100), tone(7, 16000, 333)
    mixed = MixedAudio([one, two])
    expected = whole(one).copy()
    expected[:, : whole(two).shape[1]] += whole(two)
    assert (mixed.sample_rate, mixed.channels, mixed.path) == (16000, 1, None)
    np.testing.assert_array_equal(whole(mixed), expected)
    np.testing.assert_array_equal(whole(mixed), whole(mixed))


def test_the_higher_rate_and_stereo_win() -> None:
    mixed = MixedAudio([tone(1, 16000, 200), tone(1, 44100, 300, channels=2), tone(0.5, 48000, 400, channels=6)])
    samples = whole(mixed)
    assert (mixed.sample_rate, mixed.channels, samples.shape) == (48000, 2, (2, 48000))
    np.testing.assert_array_equal(samples[0], samples[1])
    spectrum = np.abs(np.fft.rfft(samples[0, :24000]))
    assert set(np.argsort(spectrum)[-3:] * 2) == {200, 300, 400}


def test_what_is_too_loud_is_cut() -> None:
    samples = whole(MixedAudio([tone(0.1, 8000, 50, level=0.9), tone(0.1, 8000, 50, level=0.9)]))
    assert samples.max() == 1 and samples.min() == -1


def test_a_damaged_sound_is_named(tmp_path) -> None:
    broken = np.zeros(100, np.float32)
    broken[50] = np.nan
    with pytest.raises(ValueError, match="finite"):
        whole(MixedAudio([tone(1, 8000, 50), AudioSource.from_array(broken, 8000)]))
