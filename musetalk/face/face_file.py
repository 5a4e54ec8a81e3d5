"""Boxes or landmarks from a file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .given import GivenBoxes, GivenLandmarks


def load_face_file(path: str | Path) -> GivenBoxes | GivenLandmarks:
    """Boxes or landmarks written by the caller or another program.

    ``.json``: a list with a box ``[x0, y0, x1, y1]`` or null per frame, or an object with either ``boxes``
    (the same list) or ``landmarks`` (68 ``[x, y]`` or null per frame). ``.npz``: an array of either name.
    ``.npy``: ``[M, 4]`` or ``[M, 68, 2]``. Null, zeros or NaN: no face in that frame. One row serves all.

    Raises InputError naming the file.
    """
    path = Path(path)
    readers = {".json": _read_json, ".npz": _read_npz, ".npy": _read_npy}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path.name}: a face file is .json, .npz or .npy")
    try:
        content = readers[path.suffix.lower()](path)
        if len(content) != 1 or not content.keys() <= {"boxes", "landmarks"}:
            raise InputError(f"needs one of 'boxes' and 'landmarks', has {sorted(content) or 'nothing'}")
        return GivenBoxes(content["boxes"]) if "boxes" in content else GivenLandmarks(content["landmarks"])
    except (OSError, EOFError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise InputError(f"face file {path.name}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        content = {"boxes": content}
    if not isinstance(content, dict) or not all(isinstance(rows, list) for rows in content.values()):
        raise InputError("expected a list of boxes, or an object with 'boxes' or 'landmarks'")
    return {name: _without_null(name, rows) for name, rows in content.items()}


def _without_null(name: str, rows: list[Any]) -> list[Any]:
    missing = np.full((68, 2) if name == "landmarks" else 4, np.nan).tolist()
    return [missing if row is None else row for row in rows]


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _read_npy(path: Path) -> dict[str, Any]:
    array = np.load(path, allow_pickle=False)
    return {"boxes" if array.shape[-1:] == (4,) else "landmarks": array}
