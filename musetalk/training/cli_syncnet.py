"""``musetalk train-syncnet``: its options, and what it does."""

from __future__ import annotations

import argparse
from typing import Any

from .cli_train import add_training_command, exit_code, is_main_process


def add_train_syncnet(subparsers: Any) -> None:
    """Add the command to the parsers of `musetalk.cli`."""
    text = "Train SyncNet, which the sync loss and the evaluation need, on a training set made by train-data."
    add_training_command(
        subparsers, "train-syncnet", train_syncnet, text, config="configs/syncnet.yaml", change="data.batch_size=16"
    )


def train_syncnet(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code, 130 where a signal ended the run after a checkpoint."""
    from .syncnet_config import read_syncnet_config
    from .syncnet_run import train_syncnet as run

    main = is_main_process(args)
    config = read_syncnet_config(args.config, args.set)
    report = run(config, resume=args.resume, quiet=args.quiet)
    if main and not report.stopped and not args.json:
        told = f", {report.validation['accuracy']:.1%} of validation pairs right" if report.validation else ""
        print(
            f"trained {report.steps} steps: loss {report.losses['loss']:.4f}{told}; use it with "
            f"--set losses.syncnet={report.weights}"
        )
    return report.to_dict(), exit_code(report, config.steps, main)
