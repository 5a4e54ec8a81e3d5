"""``musetalk train``: its options, and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..extras import require

_STOPPED = 130
# Where torchrun and the MPIs say which of several processes this is, known before accelerate connects them.
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_EPILOG = (
    "Exit codes: 0 done, 2 bad data or configuration, 3 weights missing or unusable, 6 output cannot be written, "
    "130 stopped by a signal after a checkpoint. On several GPUs: accelerate launch -m musetalk train --config FILE."
)


def add_train(subparsers: Any) -> None:
    """Add the command to the parsers of `musetalk.cli`."""
    text = "Train the UNet on a training set made by train-data."
    command: argparse.ArgumentParser = subparsers.add_parser("train", help=text, description=text, epilog=_EPILOG)
    command.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=train)
    command.add_argument("--config", type=Path, required=True, help="YAML file, such as configs/stage1.yaml")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the file, such as data.batch_size=4; may be given several times",
    )
    command.add_argument(
        "--resume",
        default="auto",
        metavar="WHERE",
        help="auto: the newest checkpoint of the output, if any (default); none: start anew; or a checkpoint's folder",
    )


def train(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code, 130 where a signal ended the run after a checkpoint."""
    from .config import read_config
    from .run import train as run

    main = require("accelerate.utils", "train").get_int_from_env(RANKS, 0) == 0
    args.json = args.json and main  # of several processes one speaks, of an error too
    config = read_config(args.config, args.set)
    report = run(config, resume=args.resume, quiet=args.quiet)
    if main and report.stopped:
        print(
            f"musetalk: stopped after step {report.steps} of {config.steps}; the same command goes on from "
            f"{report.checkpoint}",
            file=sys.stderr,
        )
    elif main and not args.json:
        print(f"trained {report.steps} steps: loss {report.losses['loss']:.4f}; use it with --models {report.export}")
    return report.to_dict(), _STOPPED if report.stopped else 0
