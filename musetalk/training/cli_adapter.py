"""``musetalk train-adapter``: its options, and what it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..included import DEFAULT_FOLDER, models_folder
from ..terminal import TerminalProgress

AddCommand = Callable[[Any, str, Any, str], argparse.ArgumentParser]


def add_train_adapter(subparsers: Any, add_command: AddCommand) -> None:
    """Add the command. add_command: (subparsers, name, run, help) to a parser with the options every command has."""
    command = add_command(
        subparsers, "train-adapter", train_adapter, "Train a small adapter (LoRA) on one or two minutes of a person."
    )
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", type=Path, help="the person talking, facing the camera, with sound")
    source.add_argument("--data", type=Path, help="data set of the person, made by `musetalk train-data`")
    command.add_argument("--out", type=Path, required=True, help="adapter to write, .safetensors, for --lora")
    command.add_argument("--overwrite", action="store_true", help="replace an existing adapter")
    command.add_argument(
        "--models",
        type=models_folder,
        default=DEFAULT_FOLDER,
        help="models folder, or mini for the small demonstration model that is included (default: models)",
    )
    command.add_argument("--version", choices=("auto", "v15", "v1"), default="auto", help="MuseTalk 1.5 or 1.0")
    command.add_argument("--steps", type=int, help="optimiser steps (default: 1000)")
    command.add_argument("--rank", type=int, default=16, help="room for what is learned (default: 16, about 6 MB)")
    command.add_argument("--alpha", type=float, help="the change is scaled by alpha / rank (default: the rank)")
    command.add_argument("--config", type=Path, help="YAML file in place of the preset, such as configs/adapter.yaml")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of it, such as optimizer.lr=5e-5; may be given several times",
    )


def train_adapter(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code."""
    from dataclasses import replace

    from .adapter import adapter_config
    from .adapter import train_adapter as run

    steps = [] if args.steps is None else [f"steps={args.steps}"]
    config = adapter_config(args.config, [*args.set, *steps])
    config = replace(config, model=replace(config.model, folder=args.models))
    if args.data is not None:
        config = replace(config, data=replace(config.data, path=args.data))
    with TerminalProgress(quiet=args.quiet, unit="step") as progress:
        report = run(
            config,
            args.out,
            video=args.video,
            rank=args.rank,
            alpha=args.alpha,
            version=args.version,
            overwrite=args.overwrite,
            progress=progress,
        )
    if not args.json:
        print(
            f"wrote {report.path}: {report.bytes / 1e6:.1f} MB, {report.steps} steps, loss {report.loss_first:.4f} -> "
            f"{report.loss_last:.4f}; use it with --lora {report.path}"
        )
    return report.to_dict(), 0
