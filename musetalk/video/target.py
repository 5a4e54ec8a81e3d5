"""Where a result may be written, and how it gets there: beside the target first, then renamed."""

from __future__ import annotations

import secrets
from pathlib import Path

from ..errors import OutputError

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}


def check_target(path: str | Path, overwrite: bool = False) -> Path:
    """Raise OutputError unless a video can be written to `path`; return the path.

    Its folder must exist and take files, its suffix be .mp4, .m4v, .mov or .mkv, and nothing may be there
    yet, or a file with `overwrite`.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path} has no video suffix; name it with {', '.join(FORMATS)}")
    check_free(path, overwrite)
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first")
    probe = hidden_sibling(path)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write in the folder {path.parent} ({error.strerror})") from error
    return path


def check_free(path: Path, overwrite: bool) -> None:
    """Raise OutputError where `path` is a folder, or a file that must be kept."""
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); choose another name") from error
    if is_folder:
        raise OutputError(f"{path} is a folder; give a file name")
    if is_there and not overwrite:
        raise OutputError(f"{path} exists; choose another name or pass --overwrite (overwrite=True)")


def hidden_sibling(path: Path) -> Path:
    """A name nobody uses, in the same folder, so that a rename to `path` is one step."""
    return path.with_name(f".musetalk-{secrets.token_hex(8)}{path.suffix}")
