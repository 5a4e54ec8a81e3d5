"""``musetalk synthesize``: its options, and what it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..terminal import TerminalProgress

AddCommand = Callable[[Any, str, Any, str], argparse.ArgumentParser]

_FACES = ("photographs", "varied", "drawn", "all")


def add_synthesize(subparsers: Any, add_command: AddCommand) -> None:
    """Add the command. add_command: (subparsers, name, run, help) to a parser with the options every command has."""
    command = add_command(
        subparsers, "synthesize", synthesize, "Make talking clips of nobody, with the truth about every frame."
    )
    command.add_argument(
        "--out", type=Path, required=True, help="folder of the clips; what is there of the same options is kept"
    )
    command.add_argument("--clips", type=int, required=True, metavar="N", help="how many the folder shall hold")
    command.add_argument("--seconds", type=float, default=6.0, help="of each clip (default: 6)")
    command.add_argument(
        "--seed", type=int, default=0, help="0 to 4294967295; another one is other faces and voices (default: 0)"
    )
    command.add_argument(
        "--faces",
        choices=_FACES,
        default="all",
        help="the bundled photographs, persons made of them, drawn faces, or all kinds in turn (default)",
    )
    command.add_argument(
        "--held-out",
        action="store_true",
        help="voices and sentences that no training of musetalk-mini hears, nor is validated with",
    )
    command.add_argument(
        "--source",
        choices=("rest", "found"),
        default="rest",
        help="the silent clip to lip-sync: a mouth at rest (default), or as the picture has it",
    )


def synthesize(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command; its JSON result and exit code."""
    from .synthetic.clip_folder import ClipOptions, write_clips

    options = ClipOptions(args.seconds, args.seed, args.faces, args.held_out, as_found=args.source == "found")
    with TerminalProgress(quiet=args.quiet, unit="clip") as progress:
        made = write_clips(args.out, args.clips, options, progress)
    if not args.json:
        print(f"{args.out} holds {args.clips} clips, {len(made)} of them new")
    return {"out": str(args.out), "clips": args.clips, "made": [path.name for path in made]}, 0
