"""``musetalk train-data``: its options, and what it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..face.names import LANDMARK_SOURCES
from ..included import DEFAULT_FOLDER, models_folder
from ..terminal import TerminalProgress

AddCommand = Callable[[Any, str, Any, str], argparse.ArgumentParser]


def add_train_data(subparsers: Any, add_command: AddCommand) -> None:
    """Add the command. add_command: (subparsers, name, run, help) to a parser with the options every command has."""
    command = add_command(subparsers, "train-data", train_data, "Make a training set of a folder of talking videos.")
    command.add_argument("source", type=Path, metavar="SOURCE", help="folder of videos, searched with its subfolders")
    command.add_argument(
        "--out", type=Path, required=True, help="folder of the training set; what is there is continued"
    )
    command.add_argument("--workers", type=int, default=1, help="videos worked on at a time (default: 1)")
    split = command.add_mutually_exclusive_group()
    split.add_argument(
        "--validation", type=float, default=0.02, help="share of the videos kept for validation (default: 0.02)"
    )
    split.add_argument(
        "--validation-list", type=Path, metavar="FILE", help="text file: names of the videos kept, one a line"
    )
    command.add_argument(
        "--min-face", type=int, default=150, help="least width of a face in pixels (default: 150; stage 2 wants 200)"
    )
    command.add_argument("--clip-seconds", type=float, default=30, help="longest clip, up to 30 (default: 30)")
    command.add_argument("--shard-size", type=float, default=1000, metavar="MB", help="of a tar file (default: 1000)")
    command.add_argument(
        "--landmarks",
        choices=LANDMARK_SOURCES,
        default="facemesh",
        help="who finds the face: the built-in mesh (default), or DWPose, which needs its weights",
    )
    command.add_argument(
        "--models", type=models_folder, default=DEFAULT_FOLDER, help="models folder for DWPose (default: models)"
    )


def train_data(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code."""
    from .build import BuildOptions, build_dataset
    from .video_list import read_validation_list

    options = BuildOptions(
        min_face=args.min_face,
        clip_seconds=args.clip_seconds,
        landmarks=args.landmarks,
        models=args.models,
        shard_bytes=int(args.shard_size * 1_000_000),
        workers=args.workers,
        validation=args.validation,
        validation_list=None if args.validation_list is None else read_validation_list(args.validation_list),
    )
    with TerminalProgress(quiet=args.quiet, unit="video") as progress:
        report = build_dataset(args.source, args.out, options, progress=progress)
    if not args.json:
        print("\n".join(report.lines()))
    return report.to_dict(), 0 if any(report.clips.values()) else InputError.exit_code
