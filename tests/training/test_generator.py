"""What the UNet is given in training: windows as in use, and the hidden half."""

from fractions import Fraction

import numpy as np
import torch

from musetalk import audio_features
from musetalk.audio.mel import log_mel
from musetalk.audio.windows import window_starts
from musetalk.models import Models
from musetalk.training.generator import gather_windows, mask_lower_half


def test_windows_are_gathered_per_clip_with_zeros_outside():
    states = torch.arange(2 * 1500, dtype=torch.float32).reshape(2, 1500, 1, 1) + 1
    windows = gather_windows(states, torch.tensor([[-4, 0], [1494, 1500]]), torch.tensor([1500, 1500]))
    assert windows.shape == (2, 2, 10, 1)
    assert windows[0, 0, :, 0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert windows[0, 1, :, 0].tolist() == list(range(1, 11))
    assert windows[1, 0, :, 0].tolist() == [2995, 2996, 2997, 2998, 2999, 3000, 0, 0, 0, 0]
    assert windows[1, 1].abs().max() == 0
    short = gather_windows(states, torch.tensor([[0], [6]]), torch.tensor([8, 1500]))
    assert short[0, 0, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0] and (short[1] > 0).all()


def test_windows_at_the_end_of_a_short_sound_are_those_of_inference(narrow_models: Models):
    sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    starts = torch.from_numpy(window_starts(len(sound), Fraction(25)))
    with torch.inference_mode():
        states = narrow_models.audio_encoder(log_mel(sound)[None])
    windows = gather_windows(states, starts[None], torch.tensor([50]))[0]
    torch.testing.assert_close(windows, audio_features(narrow_models, sound, 16000), rtol=0, atol=1e-6)


def test_only_the_lower_half_is_hidden():
    images = torch.rand(2, 3, 256, 256)
    masked = mask_lower_half(images)
    assert torch.equal(masked[..., :128, :], images[..., :128, :])
    assert (masked[..., 128:, :] == -1).all()
    assert (images > -1).all()
