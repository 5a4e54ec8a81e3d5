"""Training an adapter on one person: only the LoRA learns, and what is saved is what draws better."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch

from musetalk.cli import main
from musetalk.errors import InputError, ModelFileError, OutputError
from musetalk.models.load import load_models
from musetalk.models.lora import load_lora, with_loras
from musetalk.models.lora_layers import inject_lora
from musetalk.training.adapter import AdaptedUNet, adapter_config, train_adapter
from musetalk.training.config import TrainingConfig, read_config
from musetalk.training.losses import LossWeights
from musetalk.training.networks import build_networks, find_networks
from musetalk.training.objective import Objective
from musetalk.training.run import make_accelerator
from musetalk.training.trainer import Trainer

from .clips import hopper, write_video
from .runs import make_batches, write_dataset

ROOT = Path(__file__).resolve().parents[2]
TINY = ["data.batch_size=1", "data.workers=0", "losses.perceptual=0", "optimizer.schedule=constant"]
TINY += ["ema_decay=0.5", "optimizer.lr=1e-3", "model.vae_gradient_checkpointing=false"]


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("person"))


def test_the_preset_is_what_its_file_says():
    assert read_config(ROOT / "configs" / "adapter.yaml") == adapter_config()
    assert adapter_config(ROOT / "configs" / "adapter.yaml", ["steps=7"]).steps == 7


@pytest.fixture
def config(narrow_models_dir, person) -> TrainingConfig:
    return adapter_config(overrides=[*TINY, f"model.folder={narrow_models_dir}", f"data.path={person}"])


def test_the_adapter_learns_and_the_unet_stays(config):
    accelerator = make_accelerator(config)
    torch.manual_seed(0)
    models = build_networks(find_networks(config), config, accelerator.device)
    inject_lora(models.unet, rank=4, alpha=8.0)
    adapted = replace(models, unet=AdaptedUNet(models.unet))
    before = {name: tensor.clone() for name, tensor in models.unet.state_dict().items()}
    trainer = Trainer(config, accelerator, adapted, Objective(LossWeights()), cycle(make_batches(config, 1)))
    losses = [trainer.step()["loss"] for _ in range(5)]
    assert losses[-1] < 0.98 * losses[0]
    after = models.unet.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if "lora_" in name
    }


def test_an_adapter_from_a_data_set(config, narrow_models_dir, tmp_path):
    files = {path: path.stat().st_mtime_ns for path in narrow_models_dir.rglob("*")}
    steps = []
    out = tmp_path / "anna.safetensors"
    report = train_adapter(replace(config, steps=2), out, rank=4, alpha=8.0, progress=lambda *step: steps.append(step))
    assert steps == [("train", 1, 2), ("train", 2, 2)]
    assert (report.steps, report.rank, report.alpha, report.version, report.perceptual) == (2, 4, 8.0, "v15", False)
    assert report.bytes == out.stat().st_size < 1_000_000
    assert list(tmp_path.iterdir()) == [out]
    assert {path: path.stat().st_mtime_ns for path in narrow_models_dir.rglob("*")} == files

    models = load_models(narrow_models_dir, device="cpu")
    lora = load_lora(out, models.unet.config)
    assert all(layer.up.abs().max() > 0 for layer in lora.layers.values())
    inputs = torch.ones(1, 8, 16, 16), torch.ones(1, 50, 64)
    with torch.no_grad():
        assert not torch.equal(with_loras(models, [(out, 1.0)]).unet(*inputs), models.unet(*inputs))


def test_a_trainer_sees_the_lora_alone(narrow_models_dir):
    unet = load_models(narrow_models_dir, device="cpu").unet
    own = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    parameters = inject_lora(unet, rank=2)
    adapted = AdaptedUNet(unet).requires_grad_(True)
    assert {id(p) for p in adapted.parameters()} == {id(p) for p in parameters}
    assert adapted.config == unet.config
    optimizer = torch.optim.SGD(adapted.parameters(), lr=1.0)
    for _ in range(2):
        adapted(torch.ones(1, 8, 16, 16), torch.ones(1, 50, 64)).square().mean().backward()
        optimizer.step()
    for name, tensor in unet.state_dict().items():
        assert "lora_" in name or torch.equal(tensor, own[name]), name


@pytest.mark.parametrize(
    ("options", "changes", "error", "message"),
    [
        ({"rank": 100_000}, [], InputError, "rank is 100000"),
        ({"alpha": -1.0}, [], InputError, "alpha is -1"),
        ({}, ["model.unet=random"], InputError, "an adapter changes a trained UNet"),
        ({}, ["data.path=nowhere"], InputError, "no dataset.json"),
        ({}, ["model.folder=nowhere"], ModelFileError, "nowhere: no such folder"),
        ({"version": "v1"}, [], ModelFileError, "v1"),
        ({"out": "x.pt"}, [], OutputError, "safetensors"),
    ],
)
def test_what_cannot_work_is_refused(narrow_models_dir, person, tmp_path, options, changes, error, message):
    config = adapter_config(overrides=[*TINY, f"model.folder={narrow_models_dir}", f"data.path={person}", *changes])
    with pytest.raises(error, match=message):
        train_adapter(config, tmp_path / options.pop("out", "a.safetensors"), **options)
    assert not list(tmp_path.iterdir())


def test_the_command_learns_from_a_video(narrow_models_dir, tmp_path, capsys, caplog):
    video = write_video(tmp_path / "anna.mp4", lambda seconds: hopper(), 2.4)
    out = tmp_path / "anna.safetensors"
    arguments = ["train-adapter", "--video", str(video), "--out", str(out), "--models", str(narrow_models_dir)]
    arguments += ["--rank", "2", "--steps", "1", "--set", "data.batch_size=1", "--set", "data.workers=0"]
    assert main([*arguments, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out)
    assert "vgg19-dcbb9e9d.pth is missing" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anna.mp4", "anna.safetensors"]
    assert load_lora(out, load_models(narrow_models_dir, device="cpu").unet.config).rank == 2
    assert main([*arguments, "--quiet"]) == OutputError.exit_code
    assert "exists; choose another name" in capsys.readouterr().err


def test_a_video_that_shows_nobody(config, tmp_path):
    video = write_video(tmp_path / "empty.mp4", lambda seconds: None, 1.0)
    with pytest.raises(InputError, match=r"empty\.mp4 shows nobody to learn from \(1\.0 s: no face"):
        train_adapter(config, tmp_path / "a.safetensors", video=video)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.mp4"]
