"""Which LoRA files there are: told by their headers, for ComfyUI's own folder holds those of every other model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import folder_paths
from safetensors import SafetensorError, safe_open

from ...musetalk.errors import InputError
from ...musetalk.models.lora_file import HEADER_MARK, SUFFIX
from . import folders

# Searched in this order: of two files of the same name the first is meant.
_FOLDERS = (folders.KEY, "loras")


def lora_files() -> list[str]:
    """Names of the MuseTalk LoRAs in ``models/musetalk`` and ``models/loras``, as `lora_path` takes them."""
    return list(_find())


def lora_path(name: str) -> Path:
    """The file of a name. Raises InputError for one that is not there, or no longer a MuseTalk LoRA."""
    path = _find(name).get(name)
    if path is None:
        raise InputError(
            f"there is no MuseTalk LoRA {name!r} in models/musetalk or models/loras; put the file there, or choose "
            "another"
        )
    return path


def _find(wanted: str | None = None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _FOLDERS:
        for name in folders.file_names(folder):
            if name not in found and name.lower().endswith(SUFFIX) and wanted in (None, name):
                path = folder_paths.get_full_path(folder, name)
                if path is not None and _is_ours(Path(path)):
                    found[name] = Path(path)
    return found


def _is_ours(path: Path) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    return _is_marked(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=4096)
def _is_marked(path: Path, modified: int, size: int) -> bool:
    """Read once per file: schemas are asked for again and again, and collections are large."""
    try:
        with safe_open(path, framework="numpy") as file:
            return HEADER_MARK in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False
