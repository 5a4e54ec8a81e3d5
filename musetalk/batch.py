"""Running a task file: several videos with the models loaded once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .audio.source import AudioSource
from .avatar import prepare_avatar
from .avatar_file import load_avatar, read_description, save_avatar
from .commands import (
    Result,
    encode_options,
    footage_options,
    load_models,
    open_frames,
    print_report,
    profile_of,
)
from .errors import InputError, MuseTalkError
from .pipeline import StageProgress, lipsync
from .report import LipSyncReport
from .tasks import Task, read_tasks
from .terminal import TerminalProgress
from .video.writer import VideoWriter

if TYPE_CHECKING:
    from .models import Models


def run_tasks(args: argparse.Namespace) -> Result:
    """Run every task of ``args.tasks`` into the folder ``args.output``.

    Inputs and outputs of all tasks are checked first. A task that then fails does not stop the others; its error is
    in the result, and the exit code is that of the first failure.
    """
    if args.audio is not None or args.speaker is not None or args.speaker_map is not None:
        raise InputError("--tasks excludes --audio, --speaker and --speaker-map: the task file names the sounds")
    tasks = read_tasks(args.tasks)
    args.output.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        _check(task, args)
    options = footage_options(args)
    models = load_models(args)
    results: list[dict[str, Any]] = []
    code = 0
    for task in tasks:
        try:
            with TerminalProgress(quiet=args.quiet) as progress:
                report = _run(task, args, models, options, progress)
        except MuseTalkError as error:
            code = code or error.exit_code
            results.append({"task": task.name, "error": str(error)})
            if not args.json:
                print(f"{task.name}: failed: {error}")
            continue
        results.append({"task": task.name, **report.to_dict()})
        if not args.json:
            print_report(report)
    return {"tasks": results}, code


def _check(task: Task, args: argparse.Namespace) -> None:
    output: Path = args.output / task.output
    output.parent.mkdir(exist_ok=True)
    VideoWriter.check_target(output, overwrite=args.overwrite)
    AudioSource.open(task.audio)
    open_frames(args, task.video).close()
    if task.avatar is not None and task.reuses_avatar:
        read_description(args.output / task.avatar)


def _run(
    task: Task, args: argparse.Namespace, models: Models, options: dict[str, Any], progress: StageProgress
) -> LipSyncReport:
    output = args.output / task.output
    profile = profile_of(args, models)
    if models.version == "v1" and args.bbox_shift is None:
        profile = profile.changed(bbox_shift=task.bbox_shift)
    if task.avatar is None:
        with open_frames(args, task.video) as frames:
            return lipsync(
                models,
                frames,
                task.audio,
                output,
                profile=profile,
                **options,
                **encode_options(args),
                progress=progress,
            )
    folder = args.output / task.avatar
    if task.prepare:
        with open_frames(args, task.video) as frames:
            avatar = prepare_avatar(
                models,
                frames,
                profile=profile,
                **options,
                progress=lambda done, total: progress("prepare", done, total),
            )
            save_avatar(avatar, folder, overwrite=True)
    saved = load_avatar(folder)
    try:
        return lipsync(models, saved, task.audio, output, **encode_options(args), progress=progress)
    finally:
        saved.frames.close()
