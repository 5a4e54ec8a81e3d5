"""Avatars on disk: a folder with ``avatar.json``, ``avatar.safetensors`` and the footage, or a reference to it."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .avatar import FORMAT_VERSION, Avatar, content_hash
from .errors import AvatarError, InputError, OutputError
from .face.masks import PasteMask
from .face.track import FaceTrack, Jitter, PassThrough
from .face.upright import as_turn
from .folders import put_in_place
from .preparation import LATENT_SHAPE
from .profile import Profile
from .video.frames import FrameSource, hash_file
from .video.writer import VideoWriter

FORMAT = "musetalk-avatar"
AVATAR_JSON = "avatar.json"
_TENSORS = "avatar.safetensors"
_FOOTAGE = "footage"
_COPY_CHUNK = 8


def save_avatar(avatar: Avatar, folder: str | Path, *, copy_footage: bool = False, overwrite: bool = False) -> Path:
    """Write an avatar folder, whole or not at all.

    copy_footage: put the footage inside, so that the folder can be moved; otherwise its path and hash are noted.
    Footage that is no file (an array) is always stored, losslessly. Raises OutputError for a folder that exists
    (unless overwrite) or cannot be written.
    """
    folder = Path(folder)
    check_avatar_target(folder, overwrite=overwrite)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        _write_parts(avatar, part, copy_footage)
        put_in_place(part, folder, folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old"))
    except (OSError, SafetensorError) as error:  # the latter is how a full disk shows there
        raise OutputError(
            f"cannot write the avatar {folder}: {error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def check_avatar_target(folder: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a folder that must not be written or replaced."""
    if not folder.parent.is_dir():
        raise OutputError(f"the folder {folder.parent} does not exist; make it first")
    if folder.exists() and not overwrite:
        raise OutputError(f"{folder} exists; choose another name or pass --overwrite")
    if folder.exists() and not (folder / AVATAR_JSON).is_file():
        raise OutputError(f"{folder} exists and is not an avatar; choose another name")


def _write_parts(avatar: Avatar, part: Path, copy_footage: bool) -> None:
    footage = _store_footage(avatar.frames, part, copy_footage)
    tensors = part / _TENSORS
    save_file(_to_tensors(avatar), tensors, metadata={"format": FORMAT})
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "profile": avatar.profile.to_dict(),
        "footage": footage,
        "faces": len(avatar.masks),
        "passed": [asdict(span) for span in avatar.track.passed],
        "jitter": None if avatar.track.jitter is None else asdict(avatar.track.jitter),
        "tensors_sha256": _sha256(tensors),
        # Of the footage as it is stored: that is what a loaded avatar will see.
        "content_hash": content_hash(footage["sha256"], avatar.track, avatar.profile, avatar.masks),
    }
    (part / AVATAR_JSON).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _store_footage(frames: FrameSource, part: Path, copy_footage: bool) -> dict[str, Any]:
    facts = {"frames": len(frames), "fps": str(frames.fps), "width": frames.width, "height": frames.height}
    if frames.path is None:
        stored = part / f"{_FOOTAGE}.mkv"
        with VideoWriter(stored, *frames.size, frames.fps, codec="ffv1", pixel_format="bgr0") as writer:
            for start in range(0, len(frames), _COPY_CHUNK):
                writer.write(frames[start : start + _COPY_CHUNK])
    elif copy_footage:
        stored = part / f"{_FOOTAGE}{frames.path.suffix}"
        copy = shutil.copytree if frames.path.is_dir() else shutil.copyfile
        copy(frames.path, stored)
    else:
        return {"path": str(frames.path.resolve()), "sha256": frames.content_hash(), **facts}
    with FrameSource.open(stored, fps=frames.fps) as copied:
        return {"path": stored.name, "sha256": copied.content_hash(), **facts}


def _to_tensors(avatar: Avatar) -> dict[str, torch.Tensor]:
    track, masks = avatar.track, avatar.masks
    packed = b"".join(mask.packed for mask in masks)
    arrays: dict[str, np.ndarray] = {
        "boxes": track.boxes.astype(np.int32),
        "valid": track.valid.astype(np.uint8),
        "scores": track.scores.astype(np.float32),
        "weights": track.weights.astype(np.float32),
        "confidence": track.confidence.astype(np.float32),
        "mask_boxes": np.array([mask.box for mask in masks], dtype=np.int32),
        "mask_crops": np.array([mask.crop_box for mask in masks], dtype=np.int32),
        "mask_regions": np.array([mask.region for mask in masks], dtype=np.int32),
        "mask_sizes": np.array([len(mask.packed) for mask in masks], dtype=np.int64),
        "mask_bytes": np.frombuffer(packed, dtype=np.uint8).copy(),
    }
    if track.landmarks is not None:
        arrays["landmarks"] = track.landmarks.astype(np.float32)
    if track.mesh is not None:
        arrays["mesh"] = track.mesh.astype(np.float32)
    if track.turns is not None:
        arrays["turns"] = track.turns.astype(np.float32)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {**tensors, "latents": avatar.latents.contiguous()}


def load_avatar(folder: str | Path) -> Avatar:
    """Read an avatar folder.

    Raises AvatarError, with the reason, for a folder that is no avatar, is damaged, was written by another format
    version, or whose footage is gone or has changed.
    """
    folder = Path(folder)
    description = read_description(folder)
    tensors = _read_tensors(folder, description)
    try:
        profile = Profile(**description["profile"])
        footage = description["footage"]
        frames = _open_footage(folder, footage, profile.parity)
    except (KeyError, TypeError, ValueError) as error:
        raise AvatarError(f"the avatar {folder} is damaged ({AVATAR_JSON}: {error}); prepare it again") from error
    try:
        avatar = _from_tensors(frames, profile, tensors, description["passed"], description["jitter"])
    except (KeyError, TypeError, ValueError, AvatarError) as error:
        raise AvatarError(f"the avatar {folder} is damaged ({_TENSORS}: {error}); prepare it again") from error
    if avatar.content_hash() != description["content_hash"]:
        raise AvatarError(f"the avatar {folder} does not match its content hash; prepare it again")
    return avatar


def read_description(folder: Path) -> dict[str, Any]:
    """The checked ``avatar.json`` of an avatar folder. Raises AvatarError."""
    path = folder / AVATAR_JSON
    if not path.is_file():
        raise AvatarError(f"{folder} is not an avatar (no {AVATAR_JSON}); make one with `musetalk prepare`")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise AvatarError(f"the avatar {folder} is damaged ({AVATAR_JSON}: {error}); prepare it again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise AvatarError(f"{path} does not describe a {FORMAT}; make one with `musetalk prepare`")
    if description.get("format_version") != FORMAT_VERSION:
        raise AvatarError(
            f"the avatar {folder} has format version {description.get('format_version')}, this release reads "
            f"{FORMAT_VERSION}; prepare it again"
        )
    missing = {"profile", "footage", "faces", "passed", "jitter", "tensors_sha256", "content_hash"} - set(description)
    if missing:
        raise AvatarError(
            f"the avatar {folder} is damaged ({AVATAR_JSON} lacks {', '.join(sorted(missing))}); prepare it again"
        )
    return description


def inspect_avatar(folder: Path) -> dict[str, Any]:
    """The facts of an avatar folder as plain values, with ``status`` ``ok`` or the reason it would be refused."""
    description = read_description(folder)
    try:
        load_avatar(folder).frames.close()
        status = "ok"
    except AvatarError as error:
        status = str(error)
    facts = {name: description[name] for name in ("format_version", "content_hash", "faces", "footage", "profile")}
    return {"avatar": str(folder), "status": status, **facts}


def _read_tensors(folder: Path, description: dict[str, Any]) -> dict[str, torch.Tensor]:
    path = folder / _TENSORS
    try:
        if _sha256(path) != description["tensors_sha256"]:
            raise AvatarError(f"the avatar {folder} is damaged ({_TENSORS} has changed); prepare it again")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AvatarError(f"the avatar {folder} is damaged ({_TENSORS}: {error}); prepare it again") from error


def _open_footage(folder: Path, footage: dict[str, Any], parity: bool) -> FrameSource:
    path = folder / footage["path"]  # an absolute reference replaces the folder
    try:
        frames = FrameSource.open(path, fps=Fraction(footage["fps"]), parity=parity)
    except InputError as error:
        raise AvatarError(f"the avatar {folder} cannot open its footage: {error}") from error
    facts = (len(frames), str(frames.fps), frames.width, frames.height)
    noted = tuple(footage[key] for key in ("frames", "fps", "width", "height"))
    if facts != noted or frames.content_hash() != footage["sha256"]:
        frames.close()
        raise AvatarError(f"the avatar {folder} is stale: its footage {path} has changed; prepare it again")
    return frames


def _from_tensors(
    frames: FrameSource, profile: Profile, tensors: dict[str, torch.Tensor], passed: list[Any], jitter: Any
) -> Avatar:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    track = FaceTrack(
        boxes=arrays["boxes"],
        valid=arrays["valid"].astype(bool),
        landmarks=arrays.get("landmarks"),
        mesh=arrays.get("mesh"),
        scores=arrays["scores"],
        weights=arrays["weights"],
        confidence=arrays["confidence"],
        passed=tuple(PassThrough(**span) for span in passed),
        turns=arrays.get("turns"),
        jitter=None if jitter is None else Jitter(**jitter),
    )
    if track.turns is not None and track.turns.shape != (len(track), 3):
        raise ValueError(f"turns are {list(track.turns.shape)} for {len(track)} frames")
    latents = tensors["latents"]
    if latents.dtype != torch.float32 or tuple(latents.shape[1:]) != LATENT_SHAPE:
        raise ValueError(f"latents are {latents.dtype} {list(latents.shape)}")
    packed, ends = arrays["mask_bytes"].tobytes(), np.cumsum(arrays["mask_sizes"])
    # The masks' turns are the track's, their colour match the profile's: neither is stored twice.
    turns = [None if track.turns is None else as_turn(track.turns[index]) for index in np.flatnonzero(track.valid)]
    color_match = profile.color_match and not profile.parity
    masks = tuple(
        PasteMask(_box(box), _box(crop), _box(region), packed[end - size : end], turn, color_match)
        for box, crop, region, size, end, turn in zip(
            arrays["mask_boxes"],
            arrays["mask_crops"],
            arrays["mask_regions"],
            arrays["mask_sizes"],
            ends,
            turns,
            strict=True,
        )
    )
    return Avatar(frames, track, profile, latents, masks)


def _box(row: np.ndarray) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (int(v) for v in row)
    return x0, y0, x1, y1


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    hash_file(path, digest)
    return digest.hexdigest()
