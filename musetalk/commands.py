"""What each command does, once its options are parsed. Every function returns its JSON result and its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import included
from .errors import InputError
from .profile import Profile
from .terminal import TerminalProgress

if TYPE_CHECKING:
    from .face.sources import LandmarkSource
    from .models import Models
    from .report import LipSyncReport
    from .speakers import Speaker
    from .video.frames import FrameSource

Result = tuple[dict[str, Any], int]

_PROFILE_OPTIONS = tuple(field.name for field in fields(Profile) if field.name != "version")


def lipsync(args: argparse.Namespace) -> Result:
    if args.tasks is not None:
        from .batch import run_tasks

        return run_tasks(args)
    from .avatar_file import load_avatar
    from .pipeline import lipsync as run
    from .soundtrack import open_sound
    from .video.writer import VideoWriter

    # Whatever can be wrong with the inputs is found before gigabytes of weights are read.
    with ExitStack() as stack:
        VideoWriter.check_target(args.output, overwrite=args.overwrite)
        if args.avatar is not None:
            refuse_footage_options(args)
            video: Any = load_avatar(args.avatar)
            stack.callback(video.frames.close)
            options: dict[str, Any] = {}
        else:
            video = stack.enter_context(open_frames(args, args.video))
            options = {**footage_options(args), "speakers": speakers_of(args)}
        audio = None
        if args.avatar is None:
            _check_inputs(args, video, options["speakers"])
        if options.get("speakers") is None:
            audio = open_sound(args.audio, video if args.avatar is None else video.frames)
        models = load_models(args)
        if args.avatar is None:
            options["profile"] = profile_of(args, models)
        progress = stack.enter_context(TerminalProgress(quiet=args.quiet))
        report = run(models, video, audio, args.output, **options, **encode_options(args), progress=progress)
    if not args.json:
        print_report(report)
    return report.to_dict(), 0


def prepare(args: argparse.Namespace) -> Result:
    from .avatar import prepare_avatar
    from .avatar_file import check_avatar_target, save_avatar
    from .report import SpeakerReport

    check_avatar_target(args.output, overwrite=args.overwrite)
    with open_frames(args, args.video) as frames, TerminalProgress(quiet=args.quiet) as progress:
        options = footage_options(args)
        _check_inputs(args, frames)
        models = load_models(args)
        avatar = prepare_avatar(
            models,
            frames,
            profile=profile_of(args, models),
            progress=lambda done, total: progress("prepare", done, total),
            **options,
        )
        save_avatar(avatar, args.output, copy_footage=args.copy_footage, overwrite=args.overwrite)
    face = SpeakerReport.of(avatar.track)
    if not args.json:
        print(f"wrote {args.output}: {len(avatar.frames)} frames, {len(avatar.masks)} with a face")
        for line in face.lines():
            print(f"  {line}")
    return {
        "avatar": str(args.output),
        "frames": len(avatar.frames),
        "faces": len(avatar.masks),
        "content_hash": avatar.content_hash(),
        **asdict(face),
    }, 0


def faces(args: argparse.Namespace) -> Result:
    from .face.mattes import open_mattes
    from .face.sheet import check_sheet_target, people_sheet, write_sheet
    from .faces import FaceSearch
    from .report import SpeakerReport

    if args.sheet is not None:
        check_sheet_target(args.sheet, overwrite=args.overwrite)
    profile = Profile.for_version("v15", **{name: getattr(args, name) for name in _PROFILE_OPTIONS})
    with ExitStack() as stack:
        frames = stack.enter_context(open_frames(args, args.video))
        if args.sheet is not None and args.sheet.exists() and args.sheet.samefile(args.video):
            raise InputError(f"the sheet {args.sheet} is also the video; choose another name")
        options = search_options(args)
        occluder = open_mattes(stack, options["occluder"], frames)
        search = FaceSearch(frames, profile, landmarks=options["landmarks"], occluder=occluder)
        progress = stack.enter_context(TerminalProgress(quiet=args.quiet))
        people = search.everyone(lambda done, total: progress("faces", done, total))
        tracks = [search.track_of(person) for person in people]
        if args.sheet is not None:
            write_sheet(people_sheet(people), args.sheet)
    found = []
    for person, track in zip(people, tracks, strict=True):
        seen = person.frames
        usable = int(track.valid.sum())
        report = SpeakerReport.of(track, person.index)
        found.append({"first_frame": int(seen[0]), "last_frame": int(seen[-1]), "usable": usable, **asdict(report)})
        if not args.json:
            print(f"person {person.index}: seen in {len(seen)} of {len(track)} frames, {usable} can be redrawn")
            for line in report.lines():
                print(f"  {line}")
    return {"video": str(args.video), "frames": len(frames), "people": found}, 0


def download(args: argparse.Namespace) -> Result:
    from .models.download import download as fetch

    if args.models == included.FOLDER:
        raise InputError(
            f"{included.TITLE} is included, there is nothing to fetch; give --models a folder for the published "
            f"models (write ./{included.NAME} for one of that name)"
        )

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    with TerminalProgress(quiet=args.quiet, unit="B", unit_scale=True) as progress:
        files = fetch(
            args.models,
            args.version,
            include=args.include,
            only=args.only,
            endpoint=args.endpoint,
            progress=progress,
            notice=say,
        )
    return {"models": str(args.models), "files": [str(path) for path in files]}, 0


def inspect(args: argparse.Namespace) -> Result:
    from .avatar_file import AVATAR_JSON, inspect_avatar
    from .models.inspect import inspect_models

    if (args.path / AVATAR_JSON).is_file():
        facts = inspect_avatar(args.path)
        if not args.json:
            print("\n".join(f"{name}: {value}" for name, value in facts.items()))
        return facts, 0
    if not args.path.is_dir() and args.path != included.FOLDER:
        raise InputError(f"{args.path} is neither a models folder nor an avatar folder")
    files = inspect_models(args.path)
    if not args.json:
        for facts in files:
            print("  ".join(f"{name}={value}" for name, value in facts.items() if value is not None))
        if not files:
            print(f"no weight files in {args.path}; fetch them with `musetalk download --models {args.path}`")
    return {"models": str(args.path), "files": files}, 0


def load_models(args: argparse.Namespace) -> Models:
    from .models import load_models as load
    from .models.lora import parse_lora, with_loras

    loras = [parse_lora(text) for text in args.lora]
    folder = args.models or included.default_folder(args.version)
    if args.models is None and folder == included.FOLDER and not args.quiet:
        print(
            f"musetalk: no folder {included.DEFAULT_FOLDER} here, so this is {included.TITLE}, a small demonstration "
            f"model; `musetalk download` fetches the real ones",
            file=sys.stderr,
        )
    return with_loras(load(folder, version=args.version, device=args.device, dtype=args.dtype), loras)


def profile_of(args: argparse.Namespace, models: Models) -> Profile:
    return Profile.for_version(models.version, **{name: getattr(args, name) for name in _PROFILE_OPTIONS})


def open_frames(args: argparse.Namespace, video: Path) -> Any:
    from .audio.features import exact_fps
    from .video.frames import FrameSource

    return FrameSource.open(video, None if args.fps is None else exact_fps(args.fps), parity=bool(args.parity))


def footage_options(args: argparse.Namespace) -> dict[str, Any]:
    """``landmarks``, ``select``, ``mask`` and ``occluder`` of the engine's functions."""
    from .speakers import parse_person

    return {**search_options(args), "select": parse_person(args.face), "mask": args.mask}


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """``landmarks`` and ``occluder``: what a search for faces takes."""
    from .face.face_file import load_face_file
    from .face.published import open_landmarks

    if args.boxes is not None and args.landmarks is not None:
        raise InputError("--boxes and --landmarks exclude each other: both say where the face is")
    if args.boxes is not None:
        landmarks: LandmarkSource | None = load_face_file(args.boxes)
    elif args.landmarks is not None:
        models = args.models or included.DEFAULT_FOLDER
        landmarks = open_landmarks(args.landmarks, models, args.device, gate=None if args.parity else False)
    else:
        landmarks = None
    return {"landmarks": landmarks, "occluder": args.occluder}


def _check_inputs(args: argparse.Namespace, frames: FrameSource, speakers: Sequence[Speaker] | None = None) -> None:
    """Open and close what the job will open, for a mistake to be told before the models are read."""
    from .face.mattes import open_mattes
    from .soundtrack import open_sound

    with ExitStack() as stack:
        for path in (args.mask, args.occluder):
            open_mattes(stack, path, frames)
    for speaker in speakers or ():
        open_sound(speaker.audio, frames)


def speakers_of(args: argparse.Namespace) -> list[Speaker] | None:
    """``speakers`` of the engine's :func:`lipsync`, None where one face speaks. Raises InputError."""
    from .speakers import parse_speaker, read_speaker_map

    if args.speaker is None and args.speaker_map is None:
        return None
    if args.speaker is not None and (args.speaker_map is not None or args.audio is not None):
        raise InputError("--speaker, --speaker-map and --audio exclude each other; only a map can share one --audio")
    if args.face != "largest":
        raise InputError("--face chooses one speaker; leave it out beside --speaker and --speaker-map")
    if args.speaker is not None:
        return [parse_speaker(text) for text in args.speaker]
    return read_speaker_map(args.speaker_map, args.audio)


def refuse_footage_options(args: argparse.Namespace) -> None:
    """An avatar brings its own footage options; ones given beside it would be silently ignored."""
    names = (*_PROFILE_OPTIONS, "fps", "boxes", "landmarks", "mask", "occluder", "speaker", "speaker_map")
    given = [name for name in names if getattr(args, name) is not None]
    given += ["face"] if args.face != "largest" else []
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{options} belong to the preparation; prepare the avatar again with them")


def encode_options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("loop", "batch_size", "codec", "crf", "preset", "overwrite")
    return {name: getattr(args, name) for name in names}


def print_report(report: LipSyncReport) -> None:
    print(f"wrote {report.output}: {report.frames} frames at {float(report.fps):.6g} fps")
    for line in report.lines():
        print(f"  {line}")
