"""musetalk-mini, the small complete model that lies in the package: its name, its place, and when it is meant."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

NAME = "mini"
TITLE = "musetalk-mini"
VERSION = "v15"
FOLDER = Path(__file__).with_name("models") / "mini"
"""In the official layout, without a face parser. A copy of the package may lack it, or hold Git LFS pointers."""

DEFAULT_FOLDER = Path("models")


def models_folder(given: str | Path) -> Path:
    """The folder a user means: the word ``mini`` is the included model, all else a path.

    A Path always is a path: ``Path("mini")``, and the text ``./mini``, are a folder of that name.
    """
    if isinstance(given, Path) or given != NAME:
        return Path(given)
    if Path(NAME).is_dir():
        logger.warning("%s means the model that is included; write ./%s for the folder of that name", NAME, NAME)
    return FOLDER


def default_folder(version: str = "auto") -> Path:
    """Where models are when nobody says: ``models`` below the current folder, else the included one.

    version: as `load_models` takes it. What the included model does not serve is to be missed in ``models``.
    """
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() or not serves(version) else FOLDER


def serves(version: str) -> bool:
    """Whether the included model is there, for who asks for that version; its files may still be damaged."""
    return version in ("auto", VERSION) and FOLDER.is_dir()
