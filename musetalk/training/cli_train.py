"""``musetalk train``: its options, and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..extras import require

_STOPPED = 130
# Where torchrun and the MPIs say which of several processes this is, known before accelerate connects them.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def add_train(subparsers: Any) -> None:
    """Add the command to the parsers of `musetalk.cli`."""
    text = "Train the UNet on a training set made by train-data."
    add_training_command(subparsers, "train", train, text, config="configs/stage1.yaml", change="data.batch_size=4")


def train(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code, 130 where a signal ended the run after a checkpoint."""
    from .config import read_config
    from .run import train as run

    main = is_main_process(args)
    config = read_config(args.config, args.set)
    report = run(config, resume=args.resume, quiet=args.quiet)
    if main and not report.stopped and not args.json:
        print(f"trained {report.steps} steps: loss {report.losses['loss']:.4f}; use it with --models {report.export}")
    return report.to_dict(), exit_code(report, config.steps, main)


def add_training_command(subparsers: Any, name: str, run: Any, text: str, *, config: str, change: str) -> None:
    """A command that trains as a configuration says. config: a preset. change: an example of a value replaced."""
    epilog = (
        "Exit codes: 0 done, 2 bad data or configuration, 3 weights missing or unusable, 6 output cannot be written, "
        "130 stopped by a signal after a checkpoint. On several GPUs: accelerate launch -m musetalk "
        f"{name} --config FILE."
    )
    command: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text, epilog=epilog)
    command.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)
    command.add_argument("--config", type=Path, required=True, help=f"YAML file, such as {config}")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"replace a value of the file, such as {change}; may be given several times",
    )
    command.add_argument(
        "--resume",
        default="auto",
        metavar="WHERE",
        help="auto: the newest checkpoint of the output, if any (default); none: start anew; or a checkpoint's folder",
    )


def is_main_process(args: argparse.Namespace) -> bool:
    """Whether this is the one of several processes that speaks; the others print no JSON, of an error either."""
    main: bool = require("accelerate.utils", "train").get_int_from_env(_RANKS, 0) == 0
    args.json = args.json and main
    return main


def exit_code(report: Any, steps: int, main: bool) -> int:
    """Of a finished run: 0, or 130 where a signal ended it, which is told. steps: the run's whole length."""
    if main and report.stopped:
        print(
            f"musetalk: stopped after step {report.steps} of {steps}; the same command goes on from "
            f"{report.checkpoint}",
            file=sys.stderr,
        )
    return _STOPPED if report.stopped else 0
