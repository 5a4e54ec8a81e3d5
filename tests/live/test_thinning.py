"""A few steps stand for all: what the encoder says of them is near what it says when it sees every one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from musetalk.audio.mel import log_mel
from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import load_waveform
from musetalk.live.streaming import FeatureStream, encode_states
from musetalk.live.thinning import NEAR_STEPS, thinned_steps
from musetalk.models import load_models

RATE = 16000
DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="module")
def mini():
    return load_models("mini", device="cpu")


@pytest.fixture(scope="module")
def speech():
    with load_waveform(AudioSource.open(DEMO / "speech.wav")) as waveform:
        return waveform.read(0, len(waveform))


@pytest.mark.parametrize("heard", [1, 7, 133, 204, 1000, 1380, 1400, 1414, 1430, 1490, 1496, 1499, 1500])
@pytest.mark.parametrize("reach", [10, 30, 600])
def test_all_steps_are_stood_for_and_the_wanted_ones_by_themselves(heard, reach):
    first = max(0, heard - reach)
    thinned = thinned_steps(heard, first)
    steps = thinned.steps.tolist()
    assert steps == sorted(set(steps)) and steps[0] >= 0 and steps[-1] < 1500
    assert thinned.weights.sum().item() == pytest.approx(1500, rel=1e-4)
    assert thinned.wanted.start == first and thinned.wanted.stop >= heard
    assert steps[thinned.rows] == list(thinned.wanted)
    assert (thinned.weights[thinned.rows] == 1).all()
    assert len(steps) <= max(NEAR_STEPS, reach) + 20 + 80 + 192


def test_a_streams_hops_have_few_sizes():
    """Of the steps and of what is wanted of them: each takes a CPU's libraries time and memory to prepare for."""
    hops = [thinned_steps(heard, max(0, heard - 18)) for heard in range(6, 1501, 2)]
    assert len({len(hop.steps) for hop in hops}) < 25
    assert len({len(hop.wanted) for hop in hops if hop.wanted.start}) == 1


def test_steps_that_stand_for_themselves_alone_give_the_states_of_all(tiny_models, voice):
    mel = log_mel(voice)[None]
    part = thinned_steps(1500, 0)
    assert len(part.steps) == 1500
    torch.testing.assert_close(encode_states(tiny_models, mel, part), encode_states(tiny_models, mel))


def test_wanted_states_are_those_of_all_steps(tiny_models, voice):
    mel = log_mel(voice)[None]
    part = thinned_steps(700, 640)
    all_of_them = tiny_models.audio_encoder(mel, part.steps, part.weights)
    wanted = encode_states(tiny_models, mel, part)
    assert wanted.shape[1] == len(part.wanted) == 60
    torch.testing.assert_close(wanted, all_of_them[:, part.rows])


def test_a_step_that_counts_twice_is_two_equal_ones(tiny_models):
    """With positions taken away, a constant sound is one step however many stand for it."""
    encoder = tiny_models.audio_encoder
    positions = encoder.embed_positions.weight
    kept = positions.detach().clone()
    try:
        positions.data.zero_()
        mel = torch.full((1, 80, 3000), -1.0)
        mel[:, :, :100] = torch.linspace(-1, 1, 100)
        steps = torch.cat([torch.arange(60), torch.tensor([100, 700])])
        weights = torch.cat([torch.ones(60), torch.tensor([1000.0, 440.0])])
        part = encoder(mel, steps, weights)[0, :60]
        whole = encoder(mel)[0, :60]
    finally:
        positions.data.copy_(kept)
    # The last step of all hears the end of the segment, and is not like the rest.
    torch.testing.assert_close(part, whole, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("seconds", [0.6, 3, 11])
def test_thinned_windows_are_near_the_whole_ones(mini, speech, seconds):
    """With the trained weights."""
    sound = np.resize(speech, int(seconds * RATE))

    def windows(thinned):
        stream = FeatureStream(mini, hop_frames=25, thinned=thinned)
        return torch.stack([frame.window for frame in stream.push(sound)])

    whole, thinned = windows(False), windows(True)
    spread = (whole - whole.mean(dim=(0, 1))).pow(2).mean().sqrt()
    assert (thinned - whole).pow(2).mean().sqrt() < 0.35 * spread
