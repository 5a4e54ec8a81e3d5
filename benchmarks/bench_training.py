"""Peak memory and seconds per step of a training stage: full-size networks with random weights, batches of noise.

    python benchmarks/bench_training.py configs/stage1.yaml [--steps 5] [--set precision=bf16] [--estimate]

Runs on the GPU where there is one. What a data loader, validation and checkpoints take is not in it. --estimate
measures nothing and prints the arithmetic of musetalk.training.memory instead, which needs no GPU and no weights.
Prints one JSON object; memory in GiB, steps are the optimiser's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from musetalk.models.audio_encoder import WhisperConfig, WhisperEncoder
from musetalk.models.load import Models
from musetalk.models.syncnet import SyncNet
from musetalk.models.unet import UNet, UNetConfig
from musetalk.models.vae import AutoencoderKL, VAEConfig
from musetalk.training.config import TrainingConfig, read_config
from musetalk.training.losses.vgg19 import VGG19
from musetalk.training.memory import estimate_memory, synthetic_batch
from musetalk.training.objective import Objective
from musetalk.training.recompute import recompute_blocks
from musetalk.training.run import make_accelerator
from musetalk.training.trainer import Trainer

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=5, help="after one to warm up (default: 5)")
    parser.add_argument("--estimate", action="store_true", help="arithmetic instead of measuring")
    args = parser.parse_args()
    config = read_config(args.config, args.set)
    print(json.dumps(estimated(config) if args.estimate else measured(config, args.steps), indent=1))


def estimated(config: TrainingConfig) -> dict[str, Any]:
    estimate = estimate_memory(config)
    kept = {name: round(count / GIB, 2) for name, count in estimate.kept.items()}
    return {"kept": kept, "passing": round(estimate.passing / GIB, 2), "total": round(estimate.total / GIB, 1)}


def measured(config: TrainingConfig, steps: int) -> dict[str, Any]:
    weights = config.losses.weights
    # Every loss counts from the first step.
    starts = replace(config.losses, gan_start=0, feature_matching_start=0)
    config = replace(config, losses=starts, optimizer=replace(config.optimizer, warmup=0))
    accelerator = make_accelerator(config)
    device = accelerator.device
    cuda = device.type == "cuda"
    torch.manual_seed(config.seed)
    models = random_models(config, device)
    objective = Objective(
        config.losses.weights,
        vgg=VGG19().requires_grad_(False) if weights.perceptual > 0 else None,
        syncnet=SyncNet() if weights.sync > 0 else None,
        upstream=config.losses.upstream_quirks,
    )
    batch = synthetic_batch(config, config.data.batch_size, device)
    trainer = Trainer(config, accelerator, models, objective, itertools.repeat(batch))
    trainer.step()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.step()  # ends in reading the losses, which waits for the device
    seconds = (time.perf_counter() - begin) / steps
    frames = config.data.batch_size * config.backward_frames * config.accumulation
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "precision": accelerator.mixed_precision,
        "seconds_per_step": round(seconds, 3),
        "frames_per_second": round(frames / seconds, 2),
    }
    if cuda:
        result["peak_allocated"] = round(torch.cuda.max_memory_allocated(device) / GIB, 1)
        result["peak_reserved"] = round(torch.cuda.max_memory_reserved(device) / GIB, 1)
    return result


def random_models(config: TrainingConfig, device: torch.device) -> Models:
    unet = UNet(UNetConfig()).to(device)
    vae = AutoencoderKL(VAEConfig()).to(device).requires_grad_(False).eval()
    encoder = WhisperEncoder(WhisperConfig()).to(device).requires_grad_(False).eval()
    if config.model.gradient_checkpointing:
        recompute_blocks(unet)
    if config.model.vae_gradient_checkpointing:
        recompute_blocks(vae.decoder)
    return Models(
        unet=unet,
        vae=vae,
        audio_encoder=encoder,
        face_parser=None,
        version="v15",
        device=device,
        dtype=torch.float32,
        files={},
    )


if __name__ == "__main__":
    main()
