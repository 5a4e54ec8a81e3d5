"""The face of a written clip and how it was filmed: ``face.npz``, an array to a field."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .still import SIZE, Rest, Still
from .take import Take

_PICTURE = (np.uint8, (SIZE, SIZE, 3))
# None: any length.
_ARRAYS: dict[str, tuple[type[np.generic], tuple[int | None, ...]]] = {
    "still.image": _PICTURE,
    "still.picture": _PICTURE,
    "still.lips": (np.float32, (4, SIZE)),
    "still.chin": (np.float32, (SIZE,)),
    "still.jaw": (np.float32, (SIZE,)),
    "take.motion": (np.float64, (5, None, 3)),
    "take.levels": (np.uint8, (256, 3)),
    "take.glow": (np.float32, (SIZE, SIZE, 1)),
}
_OPTIONAL = ("take.levels", "take.glow")
_TUPLES = {"still.heights": 2, "still.rest": len(fields(Rest)), "still.teeth": 3, "still.lip": 3}
_FLAG = "take.mirror"
# What lies in the crop, and what something is divided by.
_PLACES = ("still.centre", "still.nose")
_LENGTHS = ("still.half", "still.tall", "still.face_half", "still.heights", "still.light")


def write_face(path: Path, still: Still, take: Take) -> None:
    """Raises OSError."""
    arrays: dict[str, Any] = {}
    for prefix, value in (("still", still), ("take", take)):
        for field in fields(value):
            part = getattr(value, field.name)
            if isinstance(part, Rest):
                part = list(asdict(part).values())
            if part is not None:
                arrays[f"{prefix}.{field.name}"] = np.asarray(part)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_face(path: Path) -> tuple[Still, Take]:
    """Raises InputError naming the file, for one that is damaged or holds what no face has."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            still = _values(Still, arrays, "still")
            take = _values(Take, arrays, "take")
        still["rest"] = Rest(*still["rest"])
        return Still(**still), Take(**take)
    # The last two: a compression or an encryption that this Python does not undo.
    except (
        OSError, ValueError, LookupError, TypeError, EOFError, zlib.error, zipfile.BadZipFile, AttributeError,
        NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{path} cannot be read as a clip's face ({type(error).__name__}: {error}); synthesize the clip again"
        ) from error


def _values(kind: type[Still] | type[Take], arrays: Any, prefix: str) -> dict[str, Any]:
    """The fields of a still or a take; numbers and tuples of them become plain."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        name = f"{prefix}.{field.name}"
        if name not in arrays and name in _OPTIONAL:
            continue
        part: np.ndarray = arrays[name]
        _check(name, part)
        found[field.name] = part if name in _ARRAYS else tuple(part.tolist()) if part.ndim else part.item()
    return found


def _check(name: str, part: np.ndarray) -> None:
    shape: tuple[int | None, ...]
    if name in _ARRAYS:
        dtype, shape = _ARRAYS[name]
    else:
        dtype = np.bool_ if name == _FLAG else np.float64
        shape = (_TUPLES[name],) if name in _TUPLES else ()
    fits = part.ndim == len(shape) and all(wanted in (None, got) for wanted, got in zip(shape, part.shape, strict=True))
    if part.dtype != dtype or not fits:
        raise ValueError(f"{name} is {part.dtype} {list(part.shape)}")
    if not np.isfinite(part).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    if (name in _PLACES and not 0 <= part <= SIZE) or (name in _LENGTHS and not (part > 0).all()):
        raise ValueError(f"{name} is {part.tolist()}, which no face has")
