"""SyncNet learns from pairs that are what they are said to be, goes on exactly, and is read by those who use it."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from musetalk.errors import InputError, MuseTalkError, OutputError
from musetalk.models.syncnet import SyncNet, SyncNetConfig, load_syncnet, similarity
from musetalk.training.cli_syncnet import add_train_syncnet
from musetalk.training.config import DataConfig, OptimizerConfig, TrainingConfig, ValidationConfig
from musetalk.training.data import ClipDataset, SampleOptions
from musetalk.training.run import make_accelerator
from musetalk.training.syncnet_config import SyncNetDataConfig, SyncNetTrainingConfig, read_syncnet_config
from musetalk.training.syncnet_data import SyncBatch, collate_pairs, training_pairs, validation_pairs
from musetalk.training.syncnet_pairs import draw_partners, pair_loss, pair_means, pair_similarities, pair_sums
from musetalk.training.syncnet_run import SyncNetReport, train_syncnet
from musetalk.training.syncnet_trainer import WEIGHTS, SyncNetTrainer

from .clips import write_clip_set

PRESET = Path(__file__).resolve().parents[2] / "configs" / "syncnet.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip_set(tmp_path_factory.mktemp("syncnet") / "data", {"train": [[170, 162]], "val": [[165]]})


def make_config(data: Path, output: Path, **changes: object) -> SyncNetTrainingConfig:
    """Four steps of three samples, validated and saved at the end."""
    config = SyncNetTrainingConfig(
        output=output,
        data=SyncNetDataConfig(data, batch_size=3, workers=0),
        steps=4,
        optimizer=OptimizerConfig(lr=1e-3, schedule="constant", betas=(0.9, 0.999)),
        validation=ValidationConfig(every=4, batches=1, batch_size=4),
        checkpoint_every=2,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def uninterrupted(
    data: Path, tiny_syncnet_config: SyncNetConfig, tmp_path_factory: pytest.TempPathFactory
) -> SyncNetReport:
    config = make_config(data, tmp_path_factory.mktemp("uninterrupted"))
    return train_syncnet(config, architecture=tiny_syncnet_config)


def losses_of(report: SyncNetReport) -> list[dict[str, float]]:
    lines = (report.checkpoint.parents[1] / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def make_trainer(config: SyncNetTrainingConfig, network: SyncNet, batch: SyncBatch) -> SyncNetTrainer:
    accelerator = make_accelerator(TrainingConfig(config.output, DataConfig(config.data.path), config.steps))
    return SyncNetTrainer(config, accelerator, network, repeat(batch))


def test_a_partner_is_of_the_same_clip_far_enough_away_if_there_is_one():
    keys = ["a", "a", "a", "b", "c", "c"]
    starts = torch.tensor([0, 3, 40, 7, 10, 14])
    drawn = np.stack([draw_partners(keys, starts, 5, np.random.default_rng(seed)) for seed in range(200)])
    candidates = [set(drawn[:, place].tolist()) for place in range(6)]
    assert candidates[:3] == [{2}, {2}, {0, 1}]
    # Alone in its clip, or too close to the others of it: any sample of another clip.
    assert candidates[3:] == [{0, 1, 2, 4, 5}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    again = draw_partners(keys, starts, 5, np.random.default_rng(7))
    assert again.tolist() == drawn[7].tolist()


def test_a_sample_without_a_partner_stands_in_no_pair():
    partners = draw_partners(["a", "a", "a"], torch.tensor([0, 4, 5]), 5, np.random.default_rng(0))
    assert partners.tolist() == [2, -1, 0]
    visual = torch.eye(3, requires_grad=True)
    in_sync, out_of_sync = pair_similarities(visual, torch.eye(3), partners)
    assert (in_sync.tolist(), out_of_sync.tolist()) == ([1, 1], [0, 0])
    nobody = pair_similarities(visual, torch.eye(3), np.full(3, -1))
    loss = pair_loss(*nobody)
    loss.backward()
    assert loss.item() == 0
    assert visual.grad is not None and not visual.grad.any()
    assert set(pair_means(pair_sums(*nobody)).values()) == {0.0}


def test_means_over_batches_are_those_of_all_their_pairs():
    first = (torch.tensor([0.9, 0.4]), torch.tensor([0.2, 0.6]))
    second = (torch.tensor([0.8]), torch.tensor([0.1]))
    means = pair_means(pair_sums(*first) + pair_sums(*second))
    told = [0.9, 0.4, 0.8, 1 - 0.2, 1 - 0.6, 1 - 0.1]
    assert means["loss"] == pytest.approx(np.mean([-math.log(p) for p in told]))
    assert (means["pairs"], means["accuracy"]) == (6, pytest.approx(4 / 6))
    assert (means["in_sync"], means["out_of_sync"]) == (pytest.approx(0.7), pytest.approx(0.3))


def test_knowing_nothing_costs_ln_2():
    half = torch.full((5,), 0.5)
    assert float(pair_loss(half, half)) == pytest.approx(math.log(2))


def test_a_batch_holds_the_lower_halves_and_the_sound_of_the_same_frames(data: Path):
    samples = list(islice(ClipDataset(data, options=SampleOptions(frames=16, reference="random")), 2))
    batch = collate_pairs(samples)
    assert (batch.frames.shape, batch.mel.shape) == ((2, 48, 128, 256), (2, 1, 80, 52))
    for row, sample in enumerate(samples):
        targets = torch.as_tensor(sample["targets"])
        assert torch.equal(batch.frames[row, 3:6], targets[1, :, 128:])
        assert torch.equal(batch.mel[row, 0], torch.as_tensor(sample["sync_mel"]))
        assert (batch.keys[row], batch.starts[row]) == (sample["key"], sample["start"])


def test_the_loss_falls_on_fixed_samples_until_all_pairs_are_told_apart(
    tiny_syncnet_config: SyncNetConfig, tmp_path: Path
):
    """The fixture's network with eight channels to a group at the end: normalising two leaves little but signs."""
    visual, audio = (
        replace(encoder, channels=(*encoder.channels[:-1], 256))
        for encoder in (tiny_syncnet_config.visual, tiny_syncnet_config.audio)
    )
    torch.manual_seed(0)
    frames = F.interpolate(torch.rand(2, 48, 4, 8) * 2 - 1, (128, 256), mode="bilinear")
    mel = F.interpolate(torch.rand(2, 1, 10, 13) * 8 - 4, (80, 52))
    config = make_config(
        tmp_path, tmp_path, optimizer=OptimizerConfig(lr=3e-4, schedule="constant", betas=(0.9, 0.999))
    )
    batch = SyncBatch(frames, mel, ["a", "a"], torch.tensor([0, 5]))
    trainer = make_trainer(config, SyncNet(SyncNetConfig(visual, audio)), batch)
    values = [trainer.step() for _ in range(7)]
    assert values[0]["loss"] > 0.6
    assert values[-1]["loss"] < 0.3
    assert (values[-1]["accuracy"], values[-1]["pairs"]) == (1, 4)
    assert values[-1]["in_sync"] > values[-1]["out_of_sync"] + 0.5


def test_stopped_crashed_and_resumed_is_uninterrupted(
    uninterrupted: SyncNetReport, data: Path, tiny_syncnet_config: SyncNetConfig, tmp_path: Path
):
    config = make_config(data, tmp_path, checkpoint_every=100)

    def stop(step: int, values: dict[str, float]) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def crash(step: int, values: dict[str, float]) -> None:
        if step == 3:
            raise RuntimeError("the machine went down")

    stopped = train_syncnet(config, architecture=tiny_syncnet_config, on_step=stop)
    assert (stopped.stopped, stopped.steps) == (True, 1)
    with pytest.raises(RuntimeError, match="went down"):
        train_syncnet(config, architecture=tiny_syncnet_config, on_step=crash)
    resumed = train_syncnet(config, architecture=tiny_syncnet_config)
    assert (resumed.resumed_from, resumed.stopped) == (stopped.checkpoint, False)
    assert losses_of(resumed) == losses_of(uninterrupted)
    assert resumed.validation == uninterrupted.validation
    expected, found = load_file(uninterrupted.weights), load_file(resumed.weights)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_is_saved_is_read_by_load_syncnet_and_says_the_same(
    data: Path, tiny_syncnet: SyncNet, tiny_syncnet_config: SyncNetConfig, tmp_path: Path
):
    config = make_config(data, tmp_path)
    batch = next(training_pairs(config, 0, 1, 0))
    trainer = make_trainer(config, tiny_syncnet, batch)
    trainer.step()
    trainer.save(tmp_path)
    loaded = load_syncnet(tmp_path / WEIGHTS, config=tiny_syncnet_config)
    with torch.no_grad():
        expected = similarity(*trainer.network(batch.frames, batch.mel))
        assert torch.equal(similarity(*loaded(batch.frames, batch.mel)), expected)


def test_validation_is_of_the_part_kept_apart_and_the_same_every_time(uninterrupted: SyncNetReport, data: Path):
    config = make_config(data, uninterrupted.checkpoint)
    (first,), (second,) = list(validation_pairs(config)), list(validation_pairs(config))
    assert set(first[0].keys) == {"val-0-0"}
    assert torch.equal(first[0].frames, second[0].frames)
    assert first[1].tolist() == second[1].tolist()
    assert uninterrupted.validation["pairs"] > 0
    assert 0 <= uninterrupted.validation["accuracy"] <= 1


def test_training_goes_on_from_given_weights(
    uninterrupted: SyncNetReport, data: Path, tiny_syncnet_config: SyncNetConfig, tmp_path: Path
):
    frozen = OptimizerConfig(lr=1e-30, schedule="constant", weight_decay=0.0)
    config = make_config(
        data, tmp_path, weights=uninterrupted.weights, steps=1, optimizer=frozen, validation=ValidationConfig(every=0)
    )
    report = train_syncnet(config, architecture=tiny_syncnet_config)
    expected, found = load_file(uninterrupted.weights), load_file(report.weights)
    assert all(torch.allclose(found[name], expected[name], rtol=0, atol=1e-20) for name in expected)
    with pytest.raises(OutputError, match="holds checkpoints"):
        train_syncnet(config, architecture=tiny_syncnet_config, resume="none")
    with pytest.raises(InputError, match="has done 1 steps already"):
        train_syncnet(config, architecture=tiny_syncnet_config)


def test_numbers_that_are_none_end_the_run(data: Path, tiny_syncnet: SyncNet, tmp_path: Path):
    config = make_config(data, tmp_path)
    batch = next(training_pairs(config, 0, 1, 0))
    trainer = make_trainer(config, tiny_syncnet, batch._replace(mel=torch.full_like(batch.mel, torch.nan)))
    with pytest.raises(MuseTalkError, match=r"after 0 steps similarities are no finite numbers.*--resume"):
        trainer.step()


def test_the_preset_says_upstreams_numbers_each_with_its_source():
    config = read_syncnet_config(PRESET)
    assert config.data.batch_size * config.accumulation == 256
    assert (config.optimizer.lr, config.optimizer.clip, config.optimizer.schedule) == (1e-5, 1.0, "constant")
    assert (config.seed, config.validation.every, config.checkpoint_every) == (42, 2500, 2500)
    lines = PRESET.read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if line.strip() and not line.startswith("#") and not line.endswith(":")]
    assert [line for line in values if not any(mark in line for mark in ("# [up]", "# [py]", "# [ours]"))] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.frames=5", "data: frames is 5, but SyncNet looks at 16 frames"),
        ("data.batch_size=1", "data: batch_size is 1; it must be at least 2"),
        ("data.least_shift=0", "data: least_shift is 0; it must be at least 1"),
        ("data.least_shft=5", "unknown key data.least_shft; did you mean data.least_shift"),
        ("losses.sync=1", "unknown key losses"),
        ("optimizer.lr=-1", "optimizer: lr is -1.0; it must be above 0"),
        ("optimizer.lr=.nan", "optimizer.lr is nan; it must be a finite number"),
        ("optimizer.warmup=100000", "optimizer.warmup is 100000, but there are only 100000 steps"),
        ("validation.batch_size=1", "validation.batch_size is 1; it must be at least 2"),
        ("precision=int8", "precision is 'int8'; use one of fp32, bf16, fp16"),
        ("weights=[1]", "weights is"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(override: str, message: str):
    with pytest.raises(InputError) as error:
        read_syncnet_config(PRESET, [override])
    assert message in str(error.value)


def test_what_is_missing_is_said_before_a_network_is_built(data: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no-data"):
        train_syncnet(make_config(tmp_path / "no-data", tmp_path))
    with pytest.raises(InputError, match=r"latentsync_syncnet.pt: no such file; leave weights out"):
        train_syncnet(make_config(data, tmp_path, weights=tmp_path / "latentsync_syncnet.pt"))
    without_val = write_clip_set(tmp_path / "without", {"train": [[162]]})
    with pytest.raises(InputError, match=r"none of the 0 val clips.*validation.every: 0"):
        train_syncnet(make_config(without_val, tmp_path))
    config = make_config(data, tmp_path)
    far = replace(config, data=replace(config.data, least_shift=160))
    with pytest.raises(InputError, match=r"no two samples of the val part.*lower data.least_shift"):
        train_syncnet(far)


def test_the_command_takes_the_options_of_train():
    parser = argparse.ArgumentParser()
    add_train_syncnet(parser.add_subparsers())
    args = parser.parse_args(["train-syncnet", "--config", str(PRESET), "--set", "data.batch_size=1", "--quiet"])
    assert (args.resume, args.json, args.quiet) == ("auto", False, True)
    with pytest.raises(InputError, match="batch_size is 1"):
        args.run(args)
