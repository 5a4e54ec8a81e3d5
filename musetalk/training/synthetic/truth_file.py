"""The truth about a written clip: ``truth.json`` with the numbers, and ``face.npz`` with the face they were made of.

Of the face and the take everything is kept that rendering needs, so that a mouth can be measured by it later.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...face.boxes import Box
from .clips import Truth
from .face_file import read_face, write_face
from .still import Still
from .take import Take
from .visemes import PARAMETERS, VISEMES

TRUTH_FILE, FACE_FILE = "truth.json", "face.npz"
TALKING_FILE, SOURCE_FILE, SOUND_FILE, BOXES_FILE = "talking.mp4", "source.mp4", "speech.wav", "boxes.json"
_FORMAT, _VERSION = "musetalk-truth", 1
_DIGITS = 4


@dataclass(frozen=True, eq=False)
class TruthFile:
    """The truth about a clip, and what it was made of.

    box: of the face crop in the picture, x0 y0 x1 y1, with the margin below the chin. size: width, height of the
        picture. voice, lines: who says what. about: whatever else is worth keeping, for JSON.
    """

    truth: Truth
    fps: Fraction
    size: tuple[int, int]
    box: Box
    still: Still
    take: Take
    voice: str
    lines: tuple[str, ...]
    about: dict[str, Any]


def write_truth(folder: Path, known: TruthFile) -> None:
    """Write both files into a folder that exists. Raises OSError."""
    truth = known.truth
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "fps": str(known.fps),
        "frames": len(truth),
        "size": list(known.size),
        "box": list(known.box),
        "voice": known.voice,
        "lines": list(known.lines),
        **known.about,
        "opening": _numbers(truth.openings),
        "width": _numbers(truth.widths),
        "parameters": list(PARAMETERS),
        "poses": _numbers(truth.poses),
        "shut": truth.shut.tolist(),
        "visemes": list(truth.visemes),
    }
    write_face(folder / FACE_FILE, known.still, known.take)
    (folder / TRUTH_FILE).write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def read_truth(path: Path | str) -> TruthFile:
    """The truth from ``truth.json``, or the folder that holds it. Raises InputError naming the file."""
    path = Path(path)
    path = path / TRUTH_FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InputError(f"{path} is no truth of a synthetic clip; make clips with `musetalk synthesize`")
        if content["version"] != _VERSION:
            raise InputError(f"{path} is of version {content['version']}; this program reads version {_VERSION}")
        return _read(path.with_name(FACE_FILE), content)
    except InputError:
        raise
    # Arithmetic: numbers too large for an int, a rate of n/0. RecursionError: brackets within brackets.
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as a truth ({type(error).__name__}: {error}); synthesize the clip again"
        ) from error


def _read(face: Path, content: dict[str, Any]) -> TruthFile:
    truth = Truth(
        _series(content["opening"]),
        _series(content["width"]),
        _series(content["poses"]),
        np.array(content["shut"]),
        tuple(str(name) for name in content["visemes"]),
    )
    count = int(content["frames"])
    shapes = [series.shape for series in (truth.openings, truth.widths, truth.shut)]
    poses = truth.poses.shape
    if shapes != [(count,)] * 3 or poses != (count, len(PARAMETERS)) or len(truth.visemes) != count or not count:
        raise ValueError(f"its series do not all have the {count} frames it names")
    if truth.shut.dtype != np.bool_ or not set(truth.visemes) <= set(VISEMES):
        raise ValueError("its shut frames are not true or false, or it names visemes that there are not")
    fps = Fraction(content["fps"])
    width, height = (int(side) for side in content["size"])
    x0, y0, x1, y1 = (int(side) for side in content["box"])
    if fps <= 0 or not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"fps {fps} or box {content['box']} in {width}x{height} is impossible")
    still, take = read_face(face)
    return TruthFile(
        truth,
        fps,
        (width, height),
        (x0, y0, x1, y1),
        still,
        take,
        str(content["voice"]),
        tuple(content["lines"]),
        {},
    )


def _series(numbers: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        series = np.array(numbers, np.float32)
    if not np.isfinite(series).all():
        raise ValueError("its series hold numbers that are not finite")
    return series


def _numbers(array: np.ndarray) -> list[Any]:
    # Rounded as float64: float32 neighbours of a short decimal print as long ones.
    return list(array.astype(np.float64).round(_DIGITS).tolist())
