"""``musetalk train-mini``: its options, and what it does."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

_STOPPED = 130


def add_train_mini(subparsers: Any, add_command: Any) -> None:
    """Add the command to the parsers of `musetalk.cli`. add_command: what makes a command with the common options."""
    text = "Train musetalk-mini, the small model that is included, from nothing but synthetic talking faces."
    command: argparse.ArgumentParser = add_command(subparsers, "train-mini", train_mini, text)
    command.add_argument("--config", type=Path, required=True, help="YAML file, such as configs/mini.yaml")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the file, such as unet.batch_size=64; may be given several times",
    )
    command.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="part of the recipe's length, such as 0.1; it needs an output of its own",
    )
    command.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")


def train_mini(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code, 130 where a signal ended the run before its models folder."""
    from .mini.config import read_mini_config
    from .mini.run import train_mini as run

    if not args.quiet:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = read_mini_config(args.config, args.set).scaled(args.scale)
    report = run(config, device=args.device, quiet=args.quiet)
    if report.stopped is not None:
        print(
            f"musetalk: stopped in stage {report.stopped}; the same command goes on from its newest checkpoint",
            file=sys.stderr,
        )
    elif not args.json:
        print(f"trained musetalk-mini; use it with --models {report.models}")
    return report.to_dict(), 0 if report.stopped is None else _STOPPED
