"""Checkpoints: killed and resumed is as if nothing had happened, and what was trained can be used."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from musetalk import FrameSource, lipsync, load_models
from musetalk.audio.source import AudioSource
from musetalk.errors import InputError, ModelFileError, OutputError
from musetalk.models.checkpoints import examine
from musetalk.training.checkpoint import Checkpoints, read_facts
from musetalk.training.config import LossConfig, TrainingConfig, read_config
from musetalk.training.random_state import random_state, set_random_state
from musetalk.training.run import TrainingReport, train
from musetalk.training.state_file import load_state, save_state
from musetalk.training.trainer import AVERAGE, UNET

from .runs import make_batches, make_config, make_trainer, weights_of, write_dataset

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "tiny.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("training") / "data")


def tiny_run(data: Path, models: Path, output: Path) -> list[str]:
    """The settings that turn configs/tiny.yaml into a run with micro-steps, random frames and a fixed end."""
    return [
        f"output={output}",
        f"data.path={data}",
        f"model.folder={models}",
        f"model.architecture={models / 'musetalkV15' / 'musetalk.json'}",
        "accumulation=2",
    ]


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tiny_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    output = tmp_path_factory.mktemp("uninterrupted")
    return train(read_config(TINY, tiny_run(data, tiny_models_dir, output)))


def losses_of(report: TrainingReport) -> list[dict[str, float]]:
    lines = (report.checkpoint.parents[1] / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_stopped_killed_and_resumed_is_uninterrupted(
    uninterrupted: TrainingReport, data: Path, tiny_models_dir: Path, tmp_path: Path
):
    """SIGTERM after a step, SIGKILL somewhere in a later one: every loss and every weight is the same to the bit."""
    settings = tiny_run(data, tiny_models_dir, tmp_path / "run")
    config = read_config(TINY, settings)

    def stop(step: int, values: dict[str, float]) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = train(config, on_step=stop)
    assert (stopped.stopped, stopped.steps, stopped.export) == (True, 1, None)

    arguments = ["train", "--quiet", "--config", str(TINY)]
    arguments += [part for setting in (*settings, "checkpoint_every=100") for part in ("--set", setting)]
    process = subprocess.Popen([sys.executable, "-m", "musetalk", *arguments], cwd=ROOT)
    log = tmp_path / "run" / "losses.jsonl"
    deadline = time.monotonic() + 120
    while len(log.read_text().splitlines()) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()

    resumed = train(config)
    assert resumed.resumed_from == stopped.checkpoint
    assert losses_of(resumed) == losses_of(uninterrupted)
    assert len(losses_of(resumed)) == config.steps
    for name in (UNET, AVERAGE):
        expected, found = load_file(uninterrupted.checkpoint / name), load_file(resumed.checkpoint / name)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_discriminators_resume_too(data: Path, tiny_models_dir: Path, tmp_path: Path):
    config = make_config(data, tiny_models_dir, tmp_path / "run")
    config = replace(config, losses=LossConfig(perceptual=0.0, gan=0.1, feature_matching=0.1))
    batches = make_batches(config, 1)
    trainer = make_trainer(config, batches)
    trainer.step()
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    trainer.save(checkpoints.begin(1))
    path = checkpoints.finish(1, trainer.facts())
    expected = trainer.step()
    again = make_trainer(config, batches, unet=path / UNET)
    again.load(path)
    assert again.step() == expected
    first, second = weights_of(trainer), weights_of(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_trained_checkpoint_drives_lipsync(
    uninterrupted: TrainingReport, clip: Path, voice: np.ndarray, tmp_path: Path
):
    assert uninterrupted.export is not None
    models = load_models(uninterrupted.export, device="cpu")
    assert models.version == "v15"
    average = load_file(uninterrupted.checkpoint / AVERAGE)
    assert all(torch.equal(value, average[name]) for name, value in models.unet.state_dict().items())
    with FrameSource.open(clip) as frames:
        report = lipsync(models, frames, AudioSource.from_array(voice[:3200], 16000), tmp_path / "out.mp4")
    assert report.frames == 5


def test_a_checkpoint_says_what_it_is(uninterrupted: TrainingReport):
    checkpoint = examine(uninterrupted.checkpoint / UNET, "unet")
    assert checkpoint.metadata["musetalk_version"] == "v15"
    assert checkpoint.config is not None
    assert [path.suffix for path in sorted(uninterrupted.checkpoint.iterdir())] == [".json"] + [".safetensors"] * 4
    assert read_facts(uninterrupted.checkpoint)["micro_steps"] == 6


def test_the_run_can_be_looked_at(uninterrupted: TrainingReport):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = uninterrupted.checkpoint.parents[1]
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/lr", "train/gradient_norm", "train/steps_per_second", "validation/l1"} <= set(
        tags["scalars"]
    )
    assert tags["images"] == ["samples"]
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3]
    with Image.open(folder / "samples" / "step-000003.png") as picture:
        collage = np.asarray(picture)
    assert collage.shape == (4 * 256, 2 * 256, 3)  # two frames of the one validation sample
    assert (collage[128:256] == 0).all()  # masked
    assert collage[256:512].std() > 10  # reference


def test_a_finished_run_and_another_world_are_refused(
    uninterrupted: TrainingReport, data: Path, tiny_models_dir: Path, tmp_path: Path
):
    settings = tiny_run(data, tiny_models_dir, uninterrupted.checkpoint.parents[1])
    with pytest.raises(InputError, match="has done 3 steps already"):
        train(read_config(TINY, settings))
    with pytest.raises(OutputError, match="holds checkpoints of an earlier run"):
        train(read_config(TINY, settings), resume="none")
    with pytest.raises(InputError, match="no checkpoint; give auto, none or"):
        train(read_config(TINY, settings), resume=str(tmp_path))


def test_the_newest_are_kept_and_nothing_half_written_counts(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (500, 1000, 1_000_000):
        checkpoints.begin(step)
        checkpoints.finish(step, {})
    checkpoints.begin(2_000_000)
    (tmp_path / "step-003000").mkdir()  # without its facts
    assert [path.name for path in checkpoints.all()] == ["step-001000", "step-1000000"]
    assert checkpoints.choose("auto") == tmp_path / "step-1000000"
    assert Checkpoints(tmp_path / "none", 1).choose("auto") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}'])
def test_damaged_facts_are_named(tmp_path: Path, text: str):
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"checkpoint\.json: cannot be used"):
        read_facts(tmp_path)


def test_state_comes_back_exactly(tmp_path: Path):
    shared = torch.arange(4.0)
    state = {"a": [shared, {"b.c/d": shared[1:]}], "n": 0.1 + 0.2, "t": (1, None, True, "x"), "e": {}, "l": []}
    save_state(state, tmp_path / "s.safetensors")
    found = load_state(tmp_path / "s.safetensors")
    assert torch.equal(found["a"][0], shared)
    assert torch.equal(found["a"][1]["b.c/d"], shared[1:])
    assert (found["n"], found["t"], found["e"], found["l"]) == (0.1 + 0.2, [1, None, True, "x"], {}, [])
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:-3])
    with pytest.raises(ModelFileError, match="damaged"):
        load_state(tmp_path / "cut.safetensors")


def test_every_generator_is_put_back(tmp_path: Path):
    save_state(random_state(), tmp_path / "r.safetensors")

    def draw() -> list[float]:
        legacy = [float(np.random.rand()), float(np.random.randn())]  # noqa: NPY002
        return [random.random(), random.gauss(0, 1), *legacy, torch.rand(1).item()]

    first = draw()
    assert draw() != first
    set_random_state(load_state(tmp_path / "r.safetensors"))
    assert draw() == first


def test_config_is_in_the_checkpoint(uninterrupted: TrainingReport):
    config = read_facts(uninterrupted.checkpoint)["config"]
    assert isinstance(config, dict)
    assert config["losses"]["backward_frames"] == 1
    assert TrainingConfig.__dataclass_fields__.keys() == config.keys()
