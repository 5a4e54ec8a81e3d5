"""``musetalk evaluate``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..included import default_folder, models_folder
from ..terminal import TerminalProgress

if TYPE_CHECKING:
    from .truth import Pictures

Result = tuple[dict[str, Any], int]

_HELP = "Measure a lip-synced video: against its sound, and against a reference."
_SYNCNET = Path("syncnet") / "latentsync_syncnet.pt"


def add_evaluate(subparsers: Any) -> None:
    """Add the command to the parser of ``musetalk``."""
    command: argparse.ArgumentParser = subparsers.add_parser("evaluate", help=_HELP, description=_HELP)
    command.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.add_argument("--video", type=Path, help="the video to measure, or a folder of images")
    command.add_argument("--reference", type=Path, help="what it is compared with, frame by frame: the source footage")
    command.add_argument("--audio", type=Path, help="the sound it should follow (default: the video's own)")
    command.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="truth.json of the synthetic clip it was made from (`musetalk synthesize`)",
    )
    command.add_argument(
        "--other",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="truth.json of clips it has nothing to do with (default: those in the folders beside)",
    )
    command.add_argument(
        "--vae",
        action="store_true",
        help="with --truth: also measure the true clip through the autoencoder of --models",
    )
    command.add_argument("--output", type=Path, metavar="FOLDER", help="write report.json and report.html here")
    command.add_argument("--overwrite", action="store_true", help="replace an existing report")
    command.add_argument(
        "--fid", nargs=2, type=Path, metavar="FOLDER", help="FID between the pictures and videos of two folders"
    )
    command.add_argument(
        "--models",
        type=models_folder,
        help="models folder: SyncNet, and the autoencoder of --vae (default: models, else the included musetalk-mini)",
    )
    command.add_argument("--syncnet", type=Path, help=f"SyncNet's weights (default: {_SYNCNET} in --models, if there)")
    command.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")
    command.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> Result:
    """The command: its JSON result and its exit code."""
    if args.truth is None and (args.other is not None or args.vae):
        option = "--vae" if args.other is None else "--other"
        raise InputError(f"{option} belongs to the truth of a synthetic clip; pass --truth FILE, or leave {option} out")
    if args.fid is not None:
        given = [name for name in ("video", "reference", "audio", "truth", "output") if getattr(args, name) is not None]
        if given:
            raise InputError(f"--fid stands alone; leave out {', '.join(f'--{name}' for name in given)}")
        return _fid(args)
    if args.video is None:
        raise InputError("nothing to measure; pass --video FILE, or --fid FOLDER FOLDER")
    return _evaluate(args)


def _evaluate(args: argparse.Namespace) -> Result:
    from ..extras import require
    from .figures import figures
    from .measure import evaluate
    from .page import check_report_target, write_report

    if args.output is not None:
        check_report_target(args.output, overwrite=args.overwrite)
        require("matplotlib", "evaluate")
    models = args.models or default_folder()
    syncnet = args.syncnet
    if syncnet is None and (models / _SYNCNET).is_file():
        syncnet = models / _SYNCNET
    with TerminalProgress(quiet=args.quiet) as progress:
        found = evaluate(
            args.video,
            args.reference,
            args.audio,
            syncnet=syncnet,
            truth=args.truth,
            others=args.other,
            vae=_autoencoder(models, args.device) if args.vae else None,
            device=args.device,
            progress=progress,
        )
    written = [] if args.output is None else write_report(found, args.output, overwrite=args.overwrite)
    if not args.json:
        for row in figures(found):
            print(f"{row.name}: {'not measured' if row.value is None else row.value} ({row.meaning})")
        for path in written:
            print(f"wrote {path}")
    return {**found.to_dict(series=False), "written": [str(path) for path in written]}, 0


def _autoencoder(folder: Path, device: str | None) -> Pictures:
    from ..latents import decode_batch, encode_faces
    from ..models.load import load_models

    models = load_models(folder, device=device)
    return lambda crops: decode_batch(models, encode_faces(models, crops)[:, 4:])


def _fid(args: argparse.Namespace) -> Result:
    from .fid import measure_fid

    with TerminalProgress(quiet=args.quiet, unit="file") as progress:
        score = measure_fid(*args.fid, device=args.device, progress=lambda done, total: progress("FID", done, total))
    if not args.json:
        print(f"FID {score.fid:.3f} between {score.first} and {score.second} pictures")
    return asdict(score), 0
