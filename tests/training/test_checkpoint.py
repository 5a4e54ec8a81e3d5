"""Checkpoints: killed and resumed is as if nothing had happened, and what was trained can be used."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from musetalk import FrameSource, lipsync, load_models
from musetalk.audio.source import AudioSource
from musetalk.errors import InputError, ModelFileError, OutputError
from musetalk.models import Models
from musetalk.models.checkpoints import examine
from musetalk.training.checkpoint import Checkpoints, read_facts
from musetalk.training.config import LossConfig, TrainingConfig, ValidationConfig, read_config
from musetalk.training.export import export_models
from musetalk.training.run import TrainingReport, train
from musetalk.training.state_file import save_state
from musetalk.training.trainer import AVERAGE, UNET

from .runs import make_batches, make_config, make_trainer, weights_of, write_dataset

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "tiny.yaml"
NO_VALIDATION = ValidationConfig(every=0)


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
def uninterrupted(data: Path, narrow_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    output = tmp_path_factory.mktemp("uninterrupted")
    return train(read_config(TINY, tiny_run(data, narrow_models_dir, output)))


def losses_of(report: TrainingReport) -> list[dict[str, float]]:
    lines = (report.checkpoint.parents[1] / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_stopped_killed_and_resumed_is_uninterrupted(
    uninterrupted: TrainingReport, data: Path, narrow_models_dir: Path, tmp_path: Path
):
    """SIGTERM after a step, SIGKILL somewhere in a later one: every loss and every weight is the same to the bit."""
    settings = tiny_run(data, narrow_models_dir, tmp_path / "run")
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_writes_a_checkpoint(
    data: Path, narrow_models_dir: Path, tmp_path: Path, number: signal.Signals
):
    """As a terminal's Ctrl-C and a batch system do: the loader's workers are meant too."""
    settings = [*tiny_run(data, narrow_models_dir, tmp_path / "run"), "data.workers=1", "steps=1000"]
    arguments = ["train", "--quiet", "--config", str(TINY)]
    arguments += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "musetalk", *arguments],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "losses.jsonl"
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, number)
    os.killpg(process.pid, number)  # as a launcher passes it on
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    steps = len(log.read_text().splitlines())
    assert Checkpoints(tmp_path / "run" / "checkpoints", 3).all()[-1].name == f"step-{steps:06d}"
    assert "the same command goes on from" in errors and "Traceback" not in errors


def test_discriminators_resume_too(data: Path, narrow_models_dir: Path, tmp_path: Path):
    config = make_config(data, narrow_models_dir, tmp_path / "run")
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
    uninterrupted: TrainingReport, data: Path, narrow_models_dir: Path, tmp_path: Path
):
    settings = tiny_run(data, narrow_models_dir, uninterrupted.checkpoint.parents[1])
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


def checkpoints_at(root: Path, keep: int, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(root, keep)
    for step in steps:
        checkpoints.begin(step)
        checkpoints.finish(step, {})
    return checkpoints


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_going_on_from_an_older_one_gives_up_the_later_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    checkpoints = checkpoints_at(tmp_path, 3, 100, 200, 300)
    checkpoints.go_on_from(tmp_path / "step-000100")
    assert names_in(tmp_path) == ["abandoned-step-000200", "abandoned-step-000300", "step-000100"]
    assert checkpoints.choose("auto") == tmp_path / "step-000100"
    assert "renamed to abandoned-step-000300" in caplog.text
    checkpoints_at(tmp_path, 3, 200)
    checkpoints.go_on_from(tmp_path / "step-000100")
    assert "abandoned-step-000200-2" in names_in(tmp_path)
    checkpoints.go_on_from(None)
    checkpoints.go_on_from(tmp_path / "elsewhere" / "step-000900")
    assert checkpoints.all() == []


def test_pruning_spares_the_one_just_written(tmp_path: Path):
    """Even where later ones were not set aside before: they would be the newest."""
    checkpoints_at(tmp_path, 1, 300)
    checkpoints_at(tmp_path, 1, 200)
    assert names_in(tmp_path) == ["abandoned-step-000300", "step-000200"]


def test_resuming_by_path_starts_a_new_course(data: Path, narrow_models_dir: Path, tmp_path: Path):
    config = make_config(data, narrow_models_dir, tmp_path / "run", checkpoint_every=1, steps=2, keep=2)
    train(config)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", 1)

    def stop(step: int, values: dict[str, float]) -> None:
        assert checkpoints.choose("auto") == checkpoints.path_of(1)  # from the first step on
        os.kill(os.getpid(), signal.SIGTERM)

    report = train(replace(config, steps=3, keep=1), resume=str(checkpoints.path_of(1)), on_step=stop)
    assert (report.resumed_from, report.steps) == (checkpoints.path_of(1), 2)
    assert names_in(checkpoints.root) == ["abandoned-step-000002", "step-000002"]


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path):
    Checkpoints(tmp_path, 1).begin(100)
    checkpoints_at(tmp_path, 1, 200)
    assert names_in(tmp_path) == ["step-000200"]


def test_the_scaler_of_float16_is_resumed(data: Path, narrow_models_dir: Path, tmp_path: Path):
    config = make_config(data, narrow_models_dir, tmp_path / "run")
    batches = make_batches(config, 1)
    trainer = make_trainer(config, batches)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4096.0, growth_interval=7)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    trainer.save(checkpoints.begin(1))
    path = checkpoints.finish(1, trainer.facts())
    again = make_trainer(config, batches, unet=path / UNET)
    again.accelerator.scaler = scaler = torch.amp.GradScaler("cpu")
    again.load(path)
    assert (scaler.get_scale(), scaler.get_growth_interval()) == (4096.0, 7)


@pytest.fixture(scope="module")
def with_discriminators(
    data: Path, narrow_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingConfig, Path]:
    """A run's settings, and a checkpoint of it."""
    root = tmp_path_factory.mktemp("damaged")
    config = make_config(data, narrow_models_dir, root, losses=LossConfig(perceptual=0.0, gan=0.1))
    trainer = make_trainer(config, make_batches(config, 1))
    trainer.step()
    checkpoints = Checkpoints(root, 1)
    trainer.save(checkpoints.begin(1))
    return config, checkpoints.finish(1, trainer.facts())


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
@pytest.mark.parametrize("name", ["ema", "optimizer", "discriminators", "random-00000"])
def test_a_damaged_part_is_named(
    with_discriminators: tuple[TrainingConfig, Path], tmp_path: Path, name: str, damage: str
):
    config, intact = with_discriminators
    shutil.copytree(intact, tmp_path / "copy")
    trainer = make_trainer(config, [], unet=tmp_path / "copy" / UNET)
    part = tmp_path / "copy" / f"{name}.safetensors"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:-9])
    else:
        part.unlink()
    if damage == "foreign":
        save_state({"a": torch.zeros(1)}, part)
    with pytest.raises(ModelFileError, match=name):
        trainer.load(tmp_path / "copy")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond 20 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_half_written(data: Path, narrow_models_dir: Path, tmp_path: Path):
    config = make_config(data, narrow_models_dir, tmp_path / "run", checkpoint_every=1, validation=NO_VALIDATION)
    with ExitStack() as stack:

        def fill(step: int, values: dict[str, float]) -> None:
            if step == 2:
                stack.enter_context(full_disk())

        with pytest.raises(OutputError, match=r"checkpoints: cannot be written to .*make room"):
            train(config, on_step=fill)
    assert names_in(tmp_path / "run" / "checkpoints") == ["step-000001"]


@pytest.mark.parametrize("place", ["export", ".export.old"])
def test_a_full_disk_leaves_the_older_export(narrow_models: Models, tmp_path: Path, place: str):
    """Also one that a killed run had moved away."""
    out = tmp_path / "export"
    unet = narrow_models.unet
    export_models(unet.state_dict(), unet.config, {}, out)
    out.rename(tmp_path / place)
    with full_disk(), pytest.raises(OutputError, match="cannot be written to"):
        export_models(unet.state_dict(), unet.config, {}, out)
    assert names_in(tmp_path) == ["export"] and names_in(out) == ["musetalkV15"]


def test_an_output_that_cannot_be_written_is_named(data: Path, narrow_models_dir: Path, tmp_path: Path):
    config = make_config(data, narrow_models_dir, tmp_path / "run", validation=NO_VALIDATION)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").touch()
    with pytest.raises(OutputError, match="run: cannot be written to"):
        train(config, on_step=lambda step, values: pytest.fail("trained first"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"format": 99}', '{"format": 1, "processes": 1, "config": {}}'),
        '{"format": 1, "step": "7", "processes": 1, "config": {}}',
        '{"format": 1, "step": 7, "processes": 1, "config": []}',
    ],
)
def test_damaged_facts_are_named(tmp_path: Path, text: str):
    (tmp_path / "checkpoint.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"checkpoint\.json: cannot be used"):
        read_facts(tmp_path)


def test_config_is_in_the_checkpoint(uninterrupted: TrainingReport):
    config = read_facts(uninterrupted.checkpoint)["config"]
    assert isinstance(config, dict)
    assert config["losses"]["backward_frames"] == 1
    assert TrainingConfig.__dataclass_fields__.keys() == config.keys()
