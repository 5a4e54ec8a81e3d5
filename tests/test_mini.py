"""The engine on models of musetalk-mini's sizes, 128 audio channels wide: random weights, the whole path."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from musetalk import audio_features, included, inpaint, lipsync, load_models, prepare_avatar
from musetalk.audio.source import AudioSource
from musetalk.cli import main
from musetalk.errors import InputError
from musetalk.inpainting import positional_encoding
from musetalk.video.frames import FrameSource


@pytest.fixture(scope="module")
def mini(mini_models_dir):
    return load_models(mini_models_dir, device="cpu")


@pytest.fixture(scope="module")
def avatar(mini, portrait_frames):
    return prepare_avatar(mini, portrait_frames[:4])


@pytest.fixture
def in_package(mini_models_dir, monkeypatch, tmp_path):
    """The random model in the place of the included one, and a current folder without models."""
    monkeypatch.setattr(included, "FOLDER", mini_models_dir)
    monkeypatch.chdir(tmp_path)


def test_a_second_of_sound_becomes_a_video_that_listens(mini, clip, tmp_path, voice):
    silent = AudioSource.from_array(np.zeros(16000, np.float32), 16000)
    loud = AudioSource.from_array(np.tile(voice, 2), 16000)
    reports = [lipsync(mini, clip, sound, tmp_path / f"{i}.mp4") for i, sound in enumerate((silent, loud))]
    assert [report.frames for report in reports] == [25, 25]
    pictures = []
    for report in reports:
        with FrameSource.open(report.output) as frames:
            pictures.append(frames[:])
    changed = (pictures[0] != pictures[1]).any(axis=(1, 2, 3))
    assert changed.any(), "the mouth does not hear the sound"


def test_features_and_positions_have_the_encoders_width(mini, avatar, voice):
    features = audio_features(mini, voice, 16000)
    assert features.shape == (12, 50, 128)
    assert inpaint(mini, avatar, features[:2]).shape == (2, 4, 32, 32)
    table = positional_encoding(128)
    assert table.shape == (50, 128)
    torch.testing.assert_close(table[7, 5], torch.tensor(np.cos(7 * 10000 ** (-4 / 128)), dtype=torch.float32))


def test_features_of_another_model_are_refused(mini, tiny_models, avatar):
    with pytest.raises(InputError, match=r"384 channels, as the published MuseTalk models.*take 128, as musetalk-mini"):
        inpaint(mini, avatar, torch.zeros(2, 50, 384))
    with pytest.raises(InputError, match=r"128 channels, as musetalk-mini make.*take 384, as the published"):
        inpaint(tiny_models, avatar, torch.zeros(2, 50, 128))
    with pytest.raises(InputError, match=r"77 channels, as models of another size"):
        inpaint(mini, avatar, torch.zeros(2, 50, 77))
    for shape in ((50, 128), (2, 49, 128)):
        with pytest.raises(InputError, match=r"expected \[N, 50, 128\]"):
            inpaint(mini, avatar, torch.zeros(shape))


@pytest.mark.parametrize("options", [("--models", "mini"), ()], ids=["named", "default"])
def test_the_command_line_needs_no_weights(in_package, options, clip, capsys):
    arguments = ["lipsync", "--video", str(clip), "--output", "out.mp4", "--device", "cpu", *options]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "wrote out.mp4: 12 frames" in said.out
    lines = [line for line in said.err.splitlines() if "musetalk-mini, a small demonstration model" in line]
    assert len(lines) == (0 if options else 1)


def test_every_command_with_models_takes_the_word(in_package, mini_models_dir, clip, capsys):
    assert main(["inspect", "mini", "--json"]) == 0
    found = {entry["kind"] for entry in json.loads(capsys.readouterr().out)["files"]}
    assert found == {"unet", "vae", "audio_encoder"}
    assert main(["prepare", "--video", str(clip), "--output", "anna", "--models", "mini", "--device", "cpu"]) == 0
    assert main(["faces", "--video", str(clip), "--models", "mini", "--landmarks", "dwpose"]) == 3
    assert "download --models models --include dwpose" in capsys.readouterr().err
    assert main(["download", "--models", "mini"]) == 2
    assert "nothing to fetch" in capsys.readouterr().err
    assert not Path("mini").exists()


def test_a_folder_of_that_name_can_be_reached(in_package, clip, capsys):
    Path("mini").mkdir()
    assert main(["lipsync", "--video", str(clip), "--output", "out.mp4", "--models", "./mini"]) == 3
    assert "mini: models are missing" in capsys.readouterr().err
