"""A finished folder in the place of an older one."""

from __future__ import annotations

import shutil
from pathlib import Path


def put_in_place(part: Path, folder: Path, old: Path) -> None:
    """Rename ``part`` to ``folder``; an older one waits as ``old`` meanwhile and is deleted in the end.

    All three are in one folder, and ``old`` does not exist. Raises OSError where that cannot be; then the older one
    is back.
    """
    if folder.exists():
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
