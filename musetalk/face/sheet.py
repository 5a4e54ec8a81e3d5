"""A picture of everybody in a clip, each with their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import OutputError

if TYPE_CHECKING:
    from .people import Person

_TILE, _CAPTION, _MARGIN, _COLUMNS = 192, 36, 8, 6
_FORMATS = (".png", ".jpg", ".jpeg")
_BACKGROUND, _TEXT = (24, 24, 28), (235, 235, 235)


def people_sheet(people: Sequence[Person]) -> np.ndarray:
    """Portraits in rows, index and number of frames under each: uint8 RGB ``[H, W, 3]``."""
    columns = min(len(people), _COLUMNS)
    rows = -(-len(people) // _COLUMNS)
    cell = _TILE + 2 * _MARGIN, _TILE + _CAPTION + 2 * _MARGIN
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for place, person in enumerate(people):
        left, top = (place % _COLUMNS) * cell[0] + _MARGIN, (place // _COLUMNS) * cell[1] + _MARGIN
        portrait = Image.fromarray(person.portrait)
        scale = _TILE / max(portrait.size)
        sized = portrait.resize((max(1, round(portrait.width * scale)), max(1, round(portrait.height * scale))))
        sheet.paste(sized, (left + (_TILE - sized.width) // 2, top + (_TILE - sized.height) // 2))
        caption = f"{person.index}: {len(person.frames)} frames"
        draw.text((left, top + _TILE + _MARGIN), caption, fill=_TEXT, font=ImageFont.load_default(18))
    return np.asarray(sheet)


def check_sheet_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a sheet that cannot be written, before any work. Raises OutputError."""
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"{path}: a sheet is one of {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it first")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; choose another name or pass --overwrite")


def write_sheet(sheet: np.ndarray, path: Path) -> None:
    """Write the sheet, whole or not at all."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        Image.fromarray(sheet).save(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error}") from error
