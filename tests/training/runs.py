"""Small training runs: a data set of painted talking faces, tiny networks and losses, and trainers of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from musetalk.models.syncnet import SyncNet
from musetalk.training.batches import training_batches
from musetalk.training.clip_file import pack
from musetalk.training.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    ValidationConfig,
)
from musetalk.training.dataset_index import SHARDS, ClipEntry, DatasetIndex, Shard
from musetalk.training.losses import LossWeights
from musetalk.training.losses.discriminator import MultiScaleDiscriminator
from musetalk.training.losses.vgg19 import VGG19
from musetalk.training.networks import build_networks, find_networks
from musetalk.training.objective import Objective
from musetalk.training.run import make_accelerator
from musetalk.training.shards import write_shard
from musetalk.training.trainer import Trainer

from ..servers import free_port
from .clips import astronaut, frame_at, hopper, opening, voice

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 160
BOX = (48, 24, 208, 232)
VGG_SHRINKAGE = 16
Batch = dict[str, Tensor]


def write_dataset(folder: Path) -> Path:
    """A data set as ``train-data`` would make it: two training clips of 6.4 s, and one for validation."""
    (folder / SHARDS).mkdir(parents=True)
    shards = {}
    for split, keys in (("train", ("hopper", "astronaut")), ("val", ("held",))):
        name = f"{split}-000000.tar"
        write_shard(folder / SHARDS / name, [(key, _members(key)) for key in keys])
        shards[split] = Shard(name, tuple(ClipEntry(key, key, FRAMES, BOX[2] - BOX[0]) for key in keys))
    DatasetIndex(folder, (shards["train"],), (shards["val"],)).save({})
    return folder


def make_config(data: Path, models: Path, output: Path, **changes: Any) -> TrainingConfig:
    """Three steps of one sample with a random tiny UNet and the L1 loss alone."""
    config = TrainingConfig(
        output=output,
        data=DataConfig(path=data, workers=0),
        steps=3,
        model=ModelConfig(folder=models, unet="random", architecture=models / "musetalkV15" / "musetalk.json"),
        losses=LossConfig(perceptual=0.0),
        optimizer=OptimizerConfig(lr=1e-3, schedule="constant"),
        discriminator=OptimizerConfig(lr=1e-3, schedule="cosine"),
        validation=ValidationConfig(every=3, batches=1, batch_size=1),
        checkpoint_every=3,
        log_every=1,
        ema_decay=0.9,
    )
    return replace(config, **changes)


def linear_optimizer() -> OptimizerConfig:
    """Steps as long as the gradient, not of one length as Adam's: what differs in a gradient differs in the weights."""
    return OptimizerConfig(lr=1.0, schedule="constant", eps=1.0, weight_decay=0.0, clip=None)


def make_batches(config: TrainingConfig, count: int) -> list[Batch]:
    """The first batches of a run."""
    stream = training_batches(config, 0, 1, 0)
    return [{name: value for name, value in next(stream).items() if torch.is_tensor(value)} for _ in range(count)]


def tiny_vgg() -> VGG19:
    """VGG19 with a sixteenth of its channels and random weights."""
    torch.manual_seed(1)
    vgg = VGG19()
    for name, conv in vgg.features.items():
        assert isinstance(conv, nn.Conv2d)
        width = 3 if conv.in_channels == 3 else conv.in_channels // VGG_SHRINKAGE
        vgg.features[name] = nn.Conv2d(width, conv.out_channels // VGG_SHRINKAGE, 3, padding=1)
    return vgg


def tiny_objective(weights: LossWeights, syncnet: SyncNet | None = None) -> Objective:
    """The losses with small networks: their own widths do not matter to a trainer."""
    torch.manual_seed(2)
    objective = Objective(weights, vgg=tiny_vgg() if weights.perceptual > 0 else None, syncnet=syncnet)
    for name in objective.discriminators:
        objective.discriminators[name] = MultiScaleDiscriminator(first_channels=4, most_channels=8)
    return objective


def make_trainer(
    config: TrainingConfig, batches: Sequence[Batch], objective: Objective | None = None, unet: Path | None = None
) -> Trainer:
    """A trainer that sees these batches over and over. unet: weights to start from instead of random ones."""
    accelerator = make_accelerator(config)
    torch.manual_seed(config.seed)
    models = build_networks(find_networks(config, unet), config, accelerator.device)
    objective = objective or tiny_objective(config.losses.weights)
    return Trainer(config, accelerator, models, objective, itertools.cycle(batches))


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """The generator's and the discriminators' weights."""
    weights = {f"unet.{name}": value.clone() for name, value in trainer.unet.state_dict().items()}
    return weights | {f"judge.{name}": value.clone() for name, value in trainer.discriminators.state_dict().items()}


def start_two(code: str, first: Sequence[str], second: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Two processes that run ``code``, with arguments of their own, as torchrun and `accelerate launch` start them."""
    port = free_port()
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, arguments in enumerate((first, second))
    ]


def train_one_of_several(data: Path, models: Path, batch_file: Path, output: Path) -> None:
    """What each process of the two-process test does: one step on its own sample; the first writes the weights."""
    config = two_process_config(data, models, output)
    batch = load_file(batch_file)
    rank = make_accelerator(config).process_index
    trainer = make_trainer(config, [{name: value[rank : rank + 1] for name, value in batch.items()}])
    values = trainer.step()
    if trainer.accelerator.is_main_process:
        save_file({**weights_of(trainer), "loss": torch.tensor(values["loss"])}, output)


def two_process_config(data: Path, models: Path, output: Path) -> TrainingConfig:
    """L1 and a little of both discriminators, whose float32 gradients round at 1e-5: hence their low rate."""
    losses = LossConfig(perceptual=0.0, gan=0.01, mouth_gan=0.01)
    config = make_config(data, models, output, losses=losses)
    return replace(config, optimizer=linear_optimizer(), discriminator=replace(linear_optimizer(), lr=1e-3))


@cache
def _members(key: str) -> dict[str, bytes]:
    portrait = astronaut() if key == "astronaut" else hopper()
    times = [i / 25 for i in range(FRAMES)]
    pictures = np.stack([frame_at(portrait, time % 2) for time in times])
    landmarks = np.stack([_landmarks(time) for time in times])
    boxes = np.tile(np.array(BOX), (FRAMES, 1))
    about = {"source": key, "start": 0, "frames": FRAMES, "size": [256, 256], "person": 0}
    return pack([pictures], voice(FRAMES / 25), landmarks, boxes, np.ones(FRAMES), about)


def _landmarks(seconds: float) -> np.ndarray:
    """68 points of a face in `BOX` whose jaw sways and whose inner lips open with the voice."""
    angles = np.linspace(0, np.pi, 17)
    jaw = np.stack((128 - 80 * np.cos(angles), 120 + 110 * np.sin(angles)), axis=1) + np.sin(seconds)
    brows_to_eyes = np.stack((np.linspace(70, 186, 31), np.linspace(60, 120, 31)), axis=1)
    outer, inner = _ellipse(12, 30, 14), _ellipse(8, 20, 9 * opening(seconds))
    return np.concatenate((jaw, brows_to_eyes, outer, inner)).astype(np.float32)


def _ellipse(points: int, width: float, height: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack((128 + width * np.cos(angles), 180 + height * np.sin(angles)), axis=1)
