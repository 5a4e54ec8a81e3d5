"""The command line: ``musetalk`` or ``python -m musetalk``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__, commands
from .errors import MuseTalkError
from .evaluation.cli import add_evaluate
from .face.names import LANDMARK_SOURCES
from .included import DEFAULT_FOLDER, models_folder
from .live.cli_live import add_live
from .playback import LOOP_MODES
from .profile import MASK_SOURCES, PARSING_MODES, VAE_SAMPLING, Profile
from .training.cli_adapter import add_train_adapter
from .training.cli_data import add_train_data
from .training.cli_mini import add_train_mini
from .training.cli_syncnet import add_train_syncnet
from .training.cli_synthesize import add_synthesize
from .training.cli_train import add_train

_INTERRUPTED = 130
_EPILOG = (
    "Exit codes: 0 done, 1 unexpected error, 2 bad input or usage, 3 weights missing or unusable, 4 no face found, "
    "5 avatar damaged or stale, 6 output cannot be written, 130 interrupted."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (listed in ``musetalk --help``)."""
    args = build_parser().parse_args(argv)
    try:
        result, code = args.run(args)
    except MuseTalkError as error:
        return _report_error(args, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _report_error(args, "interrupted; nothing half-written is left behind", _INTERRUPTED)
    if args.json:
        print(json.dumps(result, indent=2))
    return int(code)


def _report_error(args: argparse.Namespace, message: str, code: int) -> int:
    if args.json:
        print(json.dumps({"error": message, "exit_code": code}, indent=2))
    else:
        print(f"musetalk: {message}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="musetalk", description="Audio-driven lip sync for real footage.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"musetalk-studio {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_lipsync(subparsers)
    _add_prepare(subparsers)
    _add_faces(subparsers)
    _add_download(subparsers)
    _add_inspect(subparsers)
    add_train_data(subparsers, _add_command)
    add_train(subparsers)
    add_train_syncnet(subparsers)
    add_train_adapter(subparsers, _add_command)
    add_train_mini(subparsers, _add_command)
    add_synthesize(subparsers, _add_command)
    add_evaluate(subparsers)
    add_live(subparsers, _add_command)
    return parser


def _add_command(subparsers: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help_text, description=help_text, epilog=_EPILOG
    )
    command.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)
    return command


def _add_lipsync(subparsers: Any) -> None:
    command = _add_command(subparsers, "lipsync", commands.lipsync, "Make a video speak a sound.")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", type=Path, help="video, image, or folder of images")
    source.add_argument("--avatar", type=Path, help="avatar folder made by `musetalk prepare`")
    source.add_argument("--tasks", type=Path, help="YAML task file: upstream's test.yaml or realtime.yaml")
    command.add_argument("--audio", type=Path, help="anything with sound (default: the video's own)")
    command.add_argument(
        "--speaker",
        action="append",
        metavar="WHO=AUDIO",
        help="one of several people and what they say, such as 0=a.wav; once per person (WHO as for --face; "
        "`musetalk faces` lists who is there)",
    )
    command.add_argument(
        "--speaker-map", type=Path, metavar="FILE", help="YAML or JSON: who speaks from when to when (docs/faces.md)"
    )
    command.add_argument(
        "--output", type=Path, required=True, help=".mp4, .mov or .mkv to write; for --tasks, a folder"
    )
    command.add_argument("--overwrite", action="store_true", help="replace an existing output")
    command.add_argument(
        "--loop", choices=LOOP_MODES, default="ping-pong", help="for sound longer than the footage (default: ping-pong)"
    )
    _add_model_options(command)
    command.add_argument("--batch-size", type=int, default=8, help="frames per UNet pass (default: 8)")
    _add_footage_options(command)
    _add_profile_options(command)
    encode = command.add_argument_group("encoding")
    encode.add_argument("--codec", default="libx264", help="video encoder (default: libx264)")
    encode.add_argument("--crf", type=int, default=18, help="quality, lower is better (default: 18)")
    encode.add_argument("--preset", default="medium", help="encoder speed (default: medium)")


def _add_prepare(subparsers: Any) -> None:
    command = _add_command(subparsers, "prepare", commands.prepare, "Prepare footage once, for many sounds.")
    command.add_argument("--video", type=Path, required=True, help="video, image, or folder of images")
    command.add_argument("--output", type=Path, required=True, help="avatar folder to write")
    command.add_argument("--copy-footage", action="store_true", help="put the footage inside, to move the folder")
    command.add_argument("--overwrite", action="store_true", help="replace an existing avatar")
    _add_model_options(command)
    _add_footage_options(command)
    _add_profile_options(command)


def _add_faces(subparsers: Any) -> None:
    command = _add_command(
        subparsers, "faces", commands.faces, "List the people of a video, and what can be redrawn of each."
    )
    command.add_argument("--video", type=Path, required=True, help="video, image, or folder of images")
    command.add_argument("--sheet", type=Path, help="picture to write, PNG or JPEG: everybody with their number")
    command.add_argument("--overwrite", action="store_true", help="replace an existing sheet")
    command.add_argument(
        "--models", type=models_folder, default=DEFAULT_FOLDER, help="models folder, for DWPose (default: models)"
    )
    command.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")
    _add_footage_options(command, face=False)
    _add_profile_options(command)


def _add_download(subparsers: Any) -> None:
    command = _add_command(subparsers, "download", commands.download, "Fetch missing weights from the hub.")
    command.add_argument(
        "--models", type=models_folder, default=DEFAULT_FOLDER, help="models folder to fill (default: models)"
    )
    command.add_argument("--version", choices=("v15", "v1", "all"), default="v15", help="default: v15")
    command.add_argument(
        "--include", action="append", default=[], metavar="NAME", help="an optional file besides, such as dwpose"
    )
    command.add_argument(
        "--only", action="append", metavar="NAME", help="just this file, such as dwpose; may be given several times"
    )
    command.add_argument("--endpoint", help="mirror of https://huggingface.co (default: $HF_ENDPOINT)")


def _add_inspect(subparsers: Any) -> None:
    command = _add_command(subparsers, "inspect", commands.inspect, "Print what a models folder or an avatar holds.")
    command.add_argument(
        "path", type=models_folder, help="models folder or avatar folder, or mini for the included model"
    )


def _add_model_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("models")
    group.add_argument(
        "--models",
        type=models_folder,
        metavar="FOLDER",
        help="models folder, or mini for the small demonstration model that is included (default: models, and mini "
        "where there is no such folder)",
    )
    group.add_argument("--version", choices=("auto", "v15", "v1"), default="auto", help="MuseTalk 1.5 or 1.0")
    group.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[=STRENGTH]",
        help="adapter made by `musetalk train-adapter` (strength 1); may be given several times",
    )
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="default: fp16 on a GPU, fp32 on a CPU")


def _add_footage_options(command: argparse.ArgumentParser, *, face: bool = True) -> None:
    group = command.add_argument_group("footage")
    group.add_argument("--fps", type=float, help="show the footage at this rate (default: its own, 25 for images)")
    group.add_argument("--boxes", type=Path, help="JSON or NPZ file with face boxes or 68 landmarks per frame")
    group.add_argument(
        "--landmarks",
        choices=LANDMARK_SOURCES,
        help="who finds the face: the built-in mesh (default), or DWPose, which needs its weights "
        "(`musetalk download --include dwpose`)",
    )
    if face:
        group.add_argument(
            "--face",
            default="largest",
            metavar="WHO",
            help="whose face, where there are several: largest (default), smallest, left, right, center, an index, a "
            "point X,Y in pixels, or a picture of the person",
        )
    group.add_argument("--mask", type=Path, help="video, image or folder: only what is white may be redrawn")
    group.add_argument(
        "--occluder", type=Path, help="video, image or folder: what is white stands in front of the face"
    )


def _add_profile_options(command: argparse.ArgumentParser) -> None:
    """Options that default to the numbers of the model version; None leaves those."""
    group = command.add_argument_group("look (defaults are those of the model version)")
    default = Profile()
    group.add_argument("--bbox-shift", type=int, help="pixels; positive is down and opens the mouth more")
    group.add_argument("--extra-margin", type=int, help=f"pixels below the chin (v15: {default.extra_margin})")
    group.add_argument("--parsing-mode", choices=PARSING_MODES, help=f"mask shape (v15: {default.parsing_mode})")
    group.add_argument("--left-cheek-width", type=int, help=f"jaw mode only (default: {default.left_cheek_width})")
    group.add_argument("--right-cheek-width", type=int, help=f"jaw mode only (default: {default.right_cheek_width})")
    group.add_argument("--blur-ratio", type=float, help=f"softness of the mask's edge (default: {default.blur_ratio})")
    group.add_argument("--expand", type=float, help=f"size of the blending crop (default: {default.expand})")
    group.add_argument(
        "--upper-boundary-ratio",
        type=float,
        help=f"part of the crop above which nothing is pasted (default: {default.upper_boundary_ratio})",
    )
    group.add_argument("--mask-source", choices=MASK_SOURCES, help="what draws the mask (default: parser, else mesh)")
    group.add_argument(
        "--color-match", action="store_true", default=None, help="fit the redrawn face's colours to the footage"
    )
    group.add_argument(
        "--smoothing", type=float, help=f"of landmarks over time, 0 is off (default: {default.smoothing:g})"
    )
    group.add_argument("--upright", action="store_true", default=None, help="turn the crop with a tilted head")
    group.add_argument(
        "--max-yaw",
        type=float,
        help=f"degrees to the side before a frame is left as filmed (default: {default.max_yaw:g})",
    )
    group.add_argument("--max-pitch", type=float, help=f"the same up and down (default: {default.max_pitch:g})")
    group.add_argument(
        "--max-covered",
        type=float,
        help=f"the same for the covered part of the mouth (default: {default.max_covered:g})",
    )
    group.add_argument(
        "--fade", type=float, help=f"seconds of cross-fade beside such frames (default: {default.fade:g})"
    )
    group.add_argument("--vae-sampling", choices=VAE_SAMPLING, help=f"default: {default.vae_sampling}")
    group.add_argument("--seed", type=int, help="of --vae-sampling sample")
    group.add_argument(
        "--parity", action="store_true", default=None, help="reproduce upstream with its quirks (for comparisons)"
    )
