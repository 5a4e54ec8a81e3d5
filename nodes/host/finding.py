"""Which files to load: those the user chose, and for the rest the first that fit."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...musetalk import included
from ...musetalk.errors import ModelFileError
from ...musetalk.models.checkpoints import Checkpoint, examine
from ...musetalk.models.download import download as fetch
from ...musetalk.models.layout import (
    FoundModels,
    check_widths,
    find_face_network,
    find_models,
    missing_face_network,
    missing_models,
    search_models,
    version_of,
)
from ...musetalk.models.registry import files_of
from ...musetalk.models.signatures import Kind
from ...musetalk.profile import Version
from . import folders
from .progress import Interrupted, Progress

logger = logging.getLogger(__name__)

AUTO = "auto"
NONE = "none"
BUILT_IN = "built-in"
INCLUDED = f"{included.TITLE} (included)"
_HINT = "or switch on download in Load MuseTalk Models"
_NEEDED = ("unet", "vae", "audio_encoder")
# What the names of well-known files and folders say; a file that says nothing is offered everywhere.
_HINTS = {
    "vae": re.compile(r"vae", re.IGNORECASE),
    "audio_encoder": re.compile(r"whisper", re.IGNORECASE),
    "face_parser": re.compile(r"face-?pars|79999_iter|bisenet", re.IGNORECASE),
    "dwpose": re.compile(r"dwpose|dw-ll", re.IGNORECASE),
    "unet": re.compile(r"unet|^musetalk(V15)?[/\\]", re.IGNORECASE),
}
_SYNCNET_NAME = "syncnet"  # in the registry
_SYNCNET = re.compile(r"syncnet", re.IGNORECASE)
_NEVER = re.compile(r"syncnet|s3fd|resnet18|(?<![a-z])loras?(?![a-z])", re.IGNORECASE)
# ComfyUI's own folders that may hold one of ours, and what it is called there.
_CORE = {
    "vae": ("vae", re.compile(r"vae-ft-mse", re.IGNORECASE)),
    "audio_encoder": ("audio_encoders", re.compile(r"whisper.*tiny|tiny.*whisper", re.IGNORECASE)),
}


def plausible(files: Sequence[str], kind: str) -> list[str]:
    """The files whose names do not say that they are something else."""
    offered = []
    for name in files:
        hinted = [other for other, hint in _HINTS.items() if hint.search(name)]
        if not _NEVER.search(name) and (not hinted or hinted[0] == kind):
            offered.append(name)
    return offered


def find(chosen: Mapping[str, str], version: str, *, download: bool) -> FoundModels:
    """Find and examine every file, before any weight is read.

    chosen: by kind, a name from `folders.model_files`, ``auto``, or ``none`` for the face parser; for the UNet also
    `INCLUDED`, and ``auto`` then takes what belongs to it. download: fetch what ``auto`` does not find. Where there is
    no UNet and all is left to ``auto``, that is the included model.
    Raises ModelFileError for a chosen file that is something else, for missing ones, and for parts of different models.
    """
    found = _find(chosen, version)
    if found.missing and download:
        _download(version)
        found = _find(chosen, version)
    if "unet" in found.missing and included.serves(version) and all(chosen[kind] == AUTO for kind in _NEEDED):
        ignored = "".join(f"\n  not usable: {problem}" for problem in found.problems.values())
        logger.warning(
            "no MuseTalk UNet was found: taking %s, a small demonstration model; switch on download in Load MuseTalk "
            "Models for the real ones%s",
            included.TITLE,
            ignored,
        )
        found = _find({**chosen, "unet": INCLUDED}, version)
    if found.missing:
        searched = [folders.download_folder(), *(path for path, _ in folders.model_roots())]
        raise ModelFileError(f"{missing_models(found, list(dict.fromkeys(searched)), version)}, {_HINT}")
    check_widths(found)
    return found


def find_landmark_networks(
    landmarks: str, version: str, *, download: bool
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """DWPose's file and, beside it, S3FD's where there is one, which only parity asks; None for the built-in mesh.

    landmarks: a name from `folders.model_files`, ``auto``, or ``built-in``. download: fetch DWPose if ``auto`` does not
    find it. Raises ModelFileError for a chosen file that is something else, and for a missing one.
    """
    if landmarks == BUILT_IN:
        return None, None
    pose = _face_network("dwpose") if landmarks == AUTO else examine(folders.model_path(landmarks), "dwpose")
    if pose is None and download:
        _download(version, only=["dwpose"])
        pose = _face_network("dwpose")
    if pose is None:
        raise ModelFileError(f"{missing_face_network(folders.download_folder(), 'dwpose')}, {_HINT}")
    return pose, _face_network("s3fd")


def syncnet_files(files: Sequence[str]) -> list[str]:
    """The files that are called SyncNet."""
    return [name for name in files if _SYNCNET.search(name)]


def find_syncnet(chosen: str) -> Path | None:
    """SyncNet's file; None for ``none``.

    chosen: a name from `folders.model_files`, ``auto``, or ``none``. Raises ModelFileError where ``auto`` finds none.
    """
    if chosen == NONE:
        return None
    if chosen != AUTO:
        return folders.model_path(chosen)
    published = next(file for file in files_of("all", (_SYNCNET_NAME,)) if file.name == _SYNCNET_NAME)
    candidates = [root / published.local_path for root, _ in folders.model_roots()]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise ModelFileError(
            f"there is no SyncNet; get {published.address()} and put it at "
            f"{folders.download_folder() / published.local_path}, or choose none"
        )
    return found


def fingerprint() -> Any:
    """Changes when a weight file comes, goes or changes."""
    facts = []
    for name in folders.model_files():
        status = folders.model_path(name).stat()
        facts.append((name, status.st_mtime_ns, status.st_size))
    return str(facts)


def _find(chosen: Mapping[str, str], version: str) -> FoundModels:
    checkpoints: dict[Kind, Checkpoint] = {}
    problems: dict[Path, str] = {}
    actual: Version | None = None
    for kind, name in chosen.items():
        if name not in (AUTO, NONE, INCLUDED):
            checkpoints[kind] = examine(folders.model_path(name), kind)  # type: ignore[index, arg-type]
    if "unet" in checkpoints:
        actual = _version_of(checkpoints["unet"], version)
    if chosen["unet"] == INCLUDED:
        own = find_models(included.FOLDER, version)
        checkpoints = {**own.checkpoints, **checkpoints}
        actual = own.version
    open_kinds = [kind for kind, name in chosen.items() if name == AUTO and kind not in checkpoints]
    for root, by_signature in folders.model_roots() if open_kinds else ():
        here = search_models(root, version, by_signature=by_signature)
        problems.update(here.problems)
        for kind in open_kinds:
            if kind in here.checkpoints and kind not in checkpoints:
                checkpoints[kind] = here.checkpoints[kind]  # type: ignore[index]
                actual = here.version if kind == "unet" else actual
    for kind in open_kinds:
        if kind in _CORE and kind not in checkpoints:
            found = _in_core_folder(kind, problems)
            if found is not None:
                checkpoints[kind] = found  # type: ignore[index]
    fallback: Version = "v1" if version == "v1" else "v15"
    return FoundModels(actual or fallback, checkpoints, problems)


def _face_network(kind: Kind) -> Checkpoint | None:
    found = (find_face_network(root, kind, by_signature=own) for root, own in folders.model_roots())
    return next(filter(None, found), None)


def _version_of(unet: Checkpoint, version: str) -> Version:
    """What the user says, else what the file says, else v1.5."""
    if version != AUTO:
        return "v1" if version == "v1" else "v15"
    root = next((path for path, _ in folders.model_roots() if unet.path.is_relative_to(path)), unet.path.parent)
    claim = version_of(unet, root)
    if claim is None:
        logger.warning(
            "%s does not say which MuseTalk version it is: taken as v15; choose version v1 if it is", unet.path
        )
    return claim or "v15"


def _in_core_folder(kind: str, problems: dict[Path, str]) -> Checkpoint | None:
    folder, named = _CORE[kind]
    for path in folders.core_files(folder):
        if named.search(path.name):
            try:
                return examine(path, kind)  # type: ignore[arg-type]
            except ModelFileError as error:
                problems[path] = str(error)
    return None


def _download(version: str, only: Sequence[str] | None = None) -> None:
    progress = Progress()
    wanted = "v15" if version == AUTO else version
    try:
        fetch(folders.download_folder(), wanted, progress=progress.stage, notice=logger.info, only=only)
    except ModelFileError as error:
        # Where interrupts are ordinary exceptions, the transfer reports them as failures.
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
