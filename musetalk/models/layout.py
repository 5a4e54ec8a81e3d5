"""Finding the files of a model version in a folder: the official places first, then by signature."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .. import included
from ..errors import InputError, ModelFileError
from .audio_encoder import WhisperConfig
from .checkpoints import Checkpoint, examine
from .registry import FILES
from .signatures import KINDS, TITLES, Kind
from .unet import UNetConfig
from .weight_file import SUFFIXES

logger = logging.getLogger(__name__)

Version = Literal["v15", "v1"]
VERSIONS: tuple[Version, ...] = get_args(Version)
SEARCH_DEPTH = 2
# "v15", "1.5", "musetalkV15"; and "v1", "1.0", "musetalk_v1", but not the "v1" of "conv1" or "v1.4".
_V15 = re.compile(r"(v|musetalk[ _-]?)1[._-]?5(?!\d)|^1[._-]?5$")
_V1 = re.compile(r"((?<![a-z])v|musetalk[ _-]?v?)1([._-]?0)?(?![._-]?\d)|^1([._-]?0)?$")
_OPTIONAL: tuple[Kind, ...] = ("face_parser",)
_DIFFUSERS_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_WHISPER_FILES = ("model.safetensors", "pytorch_model.bin", "tiny.pt")
_UNET_PLACES: dict[Version, tuple[str, ...]] = {
    "v15": ("musetalkV15/unet.safetensors", "musetalkV15/unet.pth"),
    "v1": ("musetalk/pytorch_model.safetensors", "musetalk/pytorch_model.bin"),
}
_PLACES: dict[Kind, tuple[str, ...]] = {
    "vae": (
        *(f"{folder}/{name}" for folder in ("sd-vae", "sd-vae-ft-mse") for name in _DIFFUSERS_FILES),
        *(
            f"{folder}vae-ft-mse-840000-ema-pruned{suffix}"
            for folder in ("", "vae/")
            for suffix in (".safetensors", ".ckpt", ".pt")
        ),
    ),
    "audio_encoder": tuple(f"{folder}/{name}" for folder in ("whisper", "whisper-tiny") for name in _WHISPER_FILES),
    "face_parser": tuple(
        f"{folder}/79999_iter{suffix}"
        for folder in ("face-parse-bisent", "face-parse-bisenet")
        for suffix in (".safetensors", ".pth")
    ),
}
_FACE_PLACES: dict[Kind, tuple[str, ...]] = {
    "dwpose": ("dwpose/dw-ll_ucoco_384.safetensors", "dwpose/dw-ll_ucoco_384.pth"),
    "s3fd": tuple(
        f"s3fd/{name}{suffix}" for name in ("s3fd-619a316812", "s3fd") for suffix in (".safetensors", ".pth")
    ),
}


@dataclass(frozen=True)
class FoundModels:
    """The examined files of one model version, and why files that were looked at are of no use."""

    version: Version
    checkpoints: Mapping[Kind, Checkpoint]
    problems: Mapping[Path, str]

    @property
    def missing(self) -> tuple[Kind, ...]:
        """What the version cannot run without; the face parser may be absent."""
        return tuple(kind for kind in KINDS if kind not in self.checkpoints and kind not in _OPTIONAL)


def find_models(models_dir: Path, version: str = "auto") -> FoundModels:
    """Find and examine every file that a version needs, before anything heavy is read; see `search_models`.

    Raises InputError for an unknown version and ModelFileError, once, for everything that is missing, and for networks
    that do not belong together.
    """
    if models_dir == included.FOLDER:
        return _find_included(version)
    found = search_models(models_dir, version)
    if found.missing:
        raise ModelFileError(missing_models(found, [models_dir], version))
    check_widths(found)
    return found


def check_widths(found: FoundModels) -> None:
    """Refuse a UNet beside the audio encoder of another model. Raises ModelFileError."""
    unet, encoder = found.checkpoints["unet"], found.checkpoints["audio_encoder"]
    assert isinstance(unet.config, UNetConfig) and isinstance(encoder.config, WhisperConfig)
    if unet.config.cross_attention_dim != encoder.config.channels:
        raise ModelFileError(
            f"{unet.path} listens to {unet.config.cross_attention_dim} audio channels, but {encoder.path} gives "
            f"{encoder.config.channels}: they are parts of different models; use the UNet and the audio encoder of one"
        )


def _find_included(version: str) -> FoundModels:
    fetch = f"fetch the published weights with: {download_command(included.FOLDER, version)}"
    if version in VERSIONS and version != included.VERSION:
        raise InputError(
            f"version is {version!r}, but {included.TITLE} is a {included.VERSION} model; leave it out, or {fetch}"
        )
    try:
        if not included.FOLDER.is_dir():
            raise ModelFileError(f"{included.FOLDER}: no such folder")
        found = search_models(included.FOLDER, version, by_signature=False)
        if found.missing:
            raise ModelFileError(f"{included.FOLDER} lacks {', '.join(TITLES[kind] for kind in found.missing)}")
        check_widths(found)
    except ModelFileError as error:
        raise ModelFileError(
            f"{included.TITLE}, the small model that comes with this package, is damaged here: {error}; install the "
            f"package again, or {fetch}"
        ) from error
    return found


def search_models(models_dir: Path, version: str = "auto", *, by_signature: bool = True) -> FoundModels:
    """Find and examine the files of a version that a folder has, all of them or not.

    The official places of spec section 1.1 come first; a file there that cannot be used is an error, not
    skipped. What they lack is sought among all weight files up to two folders deep, ``by_signature``. How
    ``auto`` decides between the versions is told in `load_models`.
    Raises InputError for an unknown version, ModelFileError for a folder or a file that cannot be used.
    """
    if version not in ("auto", *VERSIONS):
        raise InputError(f"version is {version!r}; use 'auto', {', '.join(map(repr, VERSIONS))}")
    if not models_dir.is_dir():
        small = f"{included.NAME} for the small one that is included, " if included.serves(version) else ""
        raise ModelFileError(
            f"{models_dir}: no such folder; give the folder of the models, {small}or fill one with: "
            f"{download_command(models_dir, version)}"
        )
    scan = _Scan(models_dir, by_signature)
    found: dict[Kind, Checkpoint] = {}
    chosen, unet = _find_unet(scan, version)
    if unet is not None:
        found["unet"] = unet
    for kind, places in _PLACES.items():
        checkpoint = scan.at(places, kind) or next(iter(scan.of_kind(kind)), None)
        if checkpoint is not None:
            found[kind] = checkpoint
    return FoundModels(chosen, found, scan.problems)


def find_face_network(models_dir: Path, kind: Kind, *, by_signature: bool = True) -> Checkpoint | None:
    """The examined file of ``"dwpose"`` or ``"s3fd"``, which no model version needs; None where there is none.

    Looked for as `search_models` does. Raises ModelFileError for a file at an official place that cannot be used.
    """
    scan = _Scan(models_dir, by_signature)
    official = scan.at(_FACE_PLACES[kind], kind)
    return official or (next(iter(scan.of_kind(kind)), None) if models_dir.is_dir() else None)


def missing_face_network(models_dir: Path, kind: Kind) -> str:
    """That a face network is missing, where it was looked for and how to get it, for the user to read."""
    remote = next(file for file in FILES if file.name == kind)
    places = f"{', '.join(_FACE_PLACES[kind])}, and any file of that architecture"
    if remote.repo:
        way = f"to fetch it: {download_command(models_dir, 'auto')} --include {remote.name}"
    else:
        way = f"it is not on the Hugging Face hub: save {remote.url} as {models_dir / remote.local_path} yourself"
    return f"{models_dir}: {TITLES[kind]} is missing; looked for {places}; {way}"


def version_of(checkpoint: Checkpoint, models_dir: Path) -> Version | None:
    """The version a UNet file claims: by metadata ``musetalk_version``, else by its path; None if silent."""
    path = checkpoint.path.relative_to(models_dir)
    for claim in (checkpoint.metadata.get("musetalk_version", ""), path.stem, *reversed(path.parent.parts)):
        if _V15.search(claim.lower()):
            return "v15"
        if _V1.search(claim.lower()):
            return "v1"
    # Upstream named neither folder nor file of the first version after it.
    return "v1" if path.parts[-2:-1] == ("musetalk",) and path.stem == "pytorch_model" else None


def download_command(models_dir: Path, version: str) -> str:
    """What to type to fetch a version's files into the folder; into the usual one rather than the included model's."""
    folder = included.DEFAULT_FOLDER if models_dir == included.FOLDER else models_dir
    return f"python -m musetalk download --models {folder}" + ("" if version == "auto" else f" --version {version}")


class _Scan:
    """The weight files of a folder, each examined at most once and only when needed."""

    def __init__(self, models_dir: Path, by_signature: bool):
        self.models_dir = models_dir
        self.by_signature = by_signature
        self.problems: dict[Path, str] = {}
        self._examined: dict[Path, Checkpoint] | None = None

    def at(self, places: tuple[str, ...], kind: Kind) -> Checkpoint | None:
        """The first of the official places that exists; raises ModelFileError if that file cannot be used."""
        path = next((path for place in places if (path := self.models_dir / place).is_file()), None)
        return None if path is None else examine(path, kind)

    def of_kind(self, kind: Kind) -> Iterator[Checkpoint]:
        """Every usable file of the kind, shallow ones first; ``problems`` keeps why others are not."""
        if self._examined is None:
            self._examined = {}
            for path in weight_files(self.models_dir) if self.by_signature else ():
                try:
                    self._examined[path] = examine(path)
                except ModelFileError as error:
                    self.problems[path] = str(error)
        return (checkpoint for checkpoint in self._examined.values() if checkpoint.kind == kind)


def weight_files(models_dir: Path) -> list[Path]:
    """Every file with a weight file's suffix in the folder and two levels below, shallow ones first."""
    paths: list[Path] = []
    folders = [models_dir]
    for _ in range(SEARCH_DEPTH + 1):
        entries = sorted(entry for folder in folders for entry in folder.iterdir() if not entry.name.startswith("."))
        paths += [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]
        folders = [entry for entry in entries if entry.is_dir()]
    return paths


def _find_unet(scan: _Scan, version: str) -> tuple[Version, Checkpoint | None]:
    wanted: tuple[Version, ...] = VERSIONS if version == "auto" else (version,)  # type: ignore[assignment]
    official = scan.at(_UNET_PLACES[wanted[0]], "unet")
    if official is not None and version_of(official, scan.models_dir) == wanted[0]:
        return wanted[0], official
    claims = [(version_of(checkpoint, scan.models_dir), checkpoint) for checkpoint in scan.of_kind("unet")]
    for candidate in wanted:
        for claim, checkpoint in claims:
            if claim == candidate:
                return candidate, checkpoint
    for claim, checkpoint in claims:
        if claim is None:
            if version == "auto":
                logger.warning(
                    "%s does not say which MuseTalk version it is, and both have the same tensors: "
                    "taken as v15; pass version='v1' if that is what it is",
                    checkpoint.path,
                )
            return wanted[0], checkpoint
    for claim, checkpoint in claims:
        scan.problems[checkpoint.path] = (
            f"{checkpoint.path}: a MuseTalk {claim} UNet, but version={version!r} was asked for"
        )
    return wanted[0], None


def missing_models(found: FoundModels, folders: Sequence[Path], version: str) -> str:
    """What is missing and where it was looked for, for the user to read."""
    asked: tuple[Version, ...] = VERSIONS if version == "auto" else (version,)  # type: ignore[assignment]
    places = {"unet": tuple(place for one in asked for place in _UNET_PLACES[one]), **_PLACES}
    lines = [f"{', '.join(map(str, folders))}: models are missing"]
    for kind in found.missing:
        lines.append(f"  {TITLES[kind]}: looked for {', '.join(places[kind])}, and any file of that architecture")
    if found.problems:
        lines.append("looked at, but not usable:")
        lines += [f"  {problem}" for problem in found.problems.values()]
    if included.serves(version):
        lines.append(f"to try without them: --models {included.NAME}, the small demonstration model that is included")
    lines.append(f"to fetch them: {download_command(folders[0], version)}")
    return "\n".join(lines)
