"""Log-mel and resampling, against the original's numbers and by construction."""

import numpy as np
import pytest
import torch

from musetalk.audio.mel import SEGMENT_SAMPLES, log_mel, mel_filters
from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import Waveform, load_waveform
from musetalk.errors import InputError


def test_silence_is_the_constant_of_the_original():
    mel = log_mel(np.zeros(16000, dtype=np.float32))
    assert mel.shape == (80, 3000)
    torch.testing.assert_close(mel, torch.full_like(mel, -1.5))


def test_filters_cover_the_band_evenly():
    filters = mel_filters()
    assert filters.shape == (201, 80)
    # Each filter is a triangle of unit area in Hz; the bins are 40 Hz apart, so narrow ones are sampled coarsely.
    areas = filters.sum(dim=0) * 40
    torch.testing.assert_close(areas[20:], torch.ones(60), rtol=0.1, atol=0)
    assert (filters >= 0).all() and filters.max(dim=0).values.min() > 0


@pytest.mark.parametrize("hz", [200, 1000, 3000, 7000])
def test_a_tone_lands_in_its_own_band(hz):
    time = np.arange(SEGMENT_SAMPLES) / 16000
    mel = log_mel((0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32))
    band = int(mel[:, 1500].argmax())
    peak_hz = int(mel_filters()[:, band].argmax()) * 40
    assert abs(peak_hz - hz) <= max(60, 0.05 * hz)


def test_mel_of_the_real_voice_equals_the_original(shared):
    with np.load(shared / "goldens" / "sun_tiny.npz") as golden:
        expected = golden["mel"]
        length = int(golden["librosa_length"])
    with load_waveform(AudioSource.open(shared / "data" / "eng.wav")) as waveform:
        assert len(waveform) == length
        for i, segment in enumerate(expected):
            mel = log_mel(waveform.read(i * SEGMENT_SAMPLES, (i + 1) * SEGMENT_SAMPLES)).numpy()
            np.testing.assert_allclose(mel, segment, atol=5e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("samples", [1, 100, 7919])
def test_length_after_resampling(rate, samples):
    source = AudioSource.from_array(np.zeros(samples, dtype=np.float32), rate)
    with load_waveform(source) as waveform:
        assert len(waveform) == -(-samples * 16000 // rate)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_resampling_in_blocks_equals_resampling_at_once(rate):
    import soxr

    tone = np.sin(2 * np.pi * 440 * np.arange(rate * 3) / rate).astype(np.float32)
    with load_waveform(AudioSource.from_array(tone, rate)) as waveform:
        blocks = waveform.read(0, len(waveform))
    whole = soxr.resample(tone, rate, 16000, quality="HQ")[: len(blocks)]
    np.testing.assert_allclose(blocks[: len(whole)], whole, atol=1e-6)


def test_channels_are_averaged_before_resampling():
    left = np.full(16000, 0.5, dtype=np.float32)
    right = np.full(16000, -0.25, dtype=np.float32)
    with load_waveform(AudioSource.from_array(np.stack([left, right]), 16000)) as waveform:
        np.testing.assert_array_equal(waveform.read(0, 16000), np.full(16000, 0.125, dtype=np.float32))


def test_long_waveforms_leave_memory():
    with Waveform() as waveform:
        second = np.linspace(-1, 1, 16000, dtype=np.float32)
        for _ in range(400):
            waveform.append(second)
        assert waveform._spool._rolled  # past 8 MB the samples are in a file
        np.testing.assert_array_equal(waveform.read(16000 * 399, 16000 * 400 + 99), second)


def test_empty_sound_is_refused():
    with pytest.raises(InputError, match="no samples"):
        load_waveform(AudioSource.from_array(np.zeros(0, dtype=np.float32), 16000))
