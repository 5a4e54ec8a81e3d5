"""Audio windows: upstream's form for its own rates, the right form for every rate, and bounded memory."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
import torch

from musetalk.audio.features import exact_fps
from musetalk.audio.waveform import Waveform
from musetalk.audio.windows import AudioWindows, upstream_window_starts, window_starts
from musetalk.errors import InputError

RATES = [Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 60]


def steps_as_states(mel: torch.Tensor) -> torch.Tensor:
    """A stand-in encoder whose states are the step numbers, 1 to 1500, in both of two layers."""
    steps = torch.arange(1, 1501, dtype=torch.float32)
    return torch.stack([steps, -steps], dim=1)[None, :, :, None]


def windows_of(samples: int, starts) -> AudioWindows:
    waveform = Waveform()
    waveform.append(np.zeros(samples, dtype=np.float32))
    return AudioWindows(waveform, steps_as_states, starts)


def upstream_windows(samples: int, fps: int) -> list[list[int]]:
    """The step numbers (0 = padding) of each window by the recipe of spec section 2.1, steps 5 to 7, as lists."""
    per_frame = 50 / fps
    count, steps = floor(samples / 16000 * fps), floor(samples / 16000 * 50)
    padding = ceil(per_frame)
    padded = [0] * (padding * 2) + list(range(1, steps + 1)) + [0] * (padding * 3 * 2)
    return [padded[floor(i * per_frame) : floor(i * per_frame) + 10] for i in range(count)]


def test_worked_example_of_one_second():
    windows = windows_of(16000, window_starts(16000, Fraction(25)))
    assert len(windows) == 25
    first_layer = windows[:][:, 0::2, 0]
    assert first_layer[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert first_layer[1].tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert first_layer[2].tolist() == list(range(1, 11))
    assert first_layer[24].tolist() == [45, 46, 47, 48, 49, 50, 0, 0, 0, 0]


def test_tokens_are_time_major():
    tokens = windows_of(16000, window_starts(16000, Fraction(25)))[2][:, 0]
    assert tokens[:6].tolist() == [1, -1, 2, -2, 3, -3]


@pytest.mark.parametrize("fps", range(25, 50))
def test_both_forms_equal_upstream_for_its_rates(fps):
    samples = 16000 * 3 + 777
    expected = upstream_windows(samples, fps)
    for starts in (upstream_window_starts(samples, fps), window_starts(samples, Fraction(fps))[: len(expected)]):
        windows = windows_of(samples, starts)
        assert len(windows) == len(expected)
        assert windows[:][:, 0::2, 0].int().tolist() == expected


@pytest.mark.parametrize("fps", [10, 15, 24])
def test_parity_keeps_the_shift_of_slow_rates(fps):
    samples = 16000 * 2
    expected = upstream_windows(samples, fps)
    windows = windows_of(samples, upstream_window_starts(samples, fps))
    assert windows[:][:, 0::2, 0].int().tolist() == expected


@pytest.mark.parametrize("fps", RATES)
def test_every_rate_stays_on_time(fps):
    fps = Fraction(fps)
    samples = 16000 * 61
    starts = window_starts(samples, fps)
    assert len(starts) == samples * fps // 16000
    for i in (0, 1, 7, len(starts) // 2, len(starts) - 1):
        # The fifth step of the window is the one in which the frame begins.
        assert 0 <= i / fps - Fraction(int(starts[i]) + 4, 50) < Fraction(1, 50)


def test_frame_count_is_exact_where_floats_lose_one():
    samples = 640 * 29
    assert len(window_starts(samples, Fraction(25))) == 29
    assert len(upstream_window_starts(samples, 25)) == 28


@pytest.mark.parametrize("samples", [1, 319, 639, 640, 800, 1279, 1280])
@pytest.mark.parametrize("fps", RATES)
def test_very_short_sounds_give_whole_windows(samples, fps):
    windows = windows_of(samples, window_starts(samples, Fraction(fps)))
    assert len(windows) >= 1
    assert windows[:].shape[1] == 20


@pytest.mark.parametrize(("samples", "fps"), [(16000, 50), (16000, 60), (1000, 25), (600, 25), (16000, 0.5)])
def test_parity_refuses_what_stops_upstream(samples, fps):
    with pytest.raises(InputError, match="parity"):
        upstream_window_starts(samples, fps)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_pieces_equal_the_whole_across_segments(fps):
    samples = 16000 * 65
    starts = window_starts(samples, fps)
    whole = windows_of(samples, starts)[:]
    pieces = windows_of(samples, starts)
    joined = torch.cat([pieces[i : i + 7] for i in range(0, len(pieces), 7)])
    torch.testing.assert_close(joined, whole, rtol=0, atol=0)
    order = [5, len(starts) - 1, 700, 5]
    torch.testing.assert_close(pieces.gather(order), whole[order], rtol=0, atol=0)


def test_a_window_across_two_segments_has_both():
    windows = windows_of(16000 * 60, window_starts(16000 * 60, Fraction(25)))
    assert windows[750][0::2, 0].tolist() == [1497, 1498, 1499, 1500, 1, 2, 3, 4, 5, 6]


def test_only_two_segments_are_kept_and_each_is_encoded_once():
    encoded = []

    def encoder(mel):
        encoded.append(mel.shape)
        return steps_as_states(mel)

    waveform = Waveform()
    waveform.append(np.zeros(16000 * 120, dtype=np.float32))
    windows = AudioWindows(waveform, encoder, window_starts(16000 * 120, Fraction(25)))
    for i in range(0, len(windows), 50):
        windows[i : i + 50]
        assert len(windows._segments) <= 2
    assert len(encoded) == 4


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25.0, Fraction(25)),
        (25, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
    ],
)
def test_frame_rates_become_exact(given, exact):
    assert exact_fps(given) == exact


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), float("inf")])
def test_impossible_frame_rates_are_refused(fps):
    with pytest.raises(InputError, match="fps"):
        exact_fps(fps)
