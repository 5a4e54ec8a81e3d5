"""A folder written as a whole: what was there before stays until the new one is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..folders import put_in_place
from .state_file import complete_or_absent


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Inside, an empty folder beside ``folder`` is written; afterwards it takes its place.

    Raises OutputError for what the disk refuses; then an older ``folder`` is still there, and nothing half-written is.
    An older one that a killed process had moved away comes back first.
    """
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    with complete_or_absent(part):
        if old.exists() and not folder.exists():  # killed between the two renames
            old.rename(folder)
        for left in (part, old):
            if left.exists():
                shutil.rmtree(left)
        part.mkdir(parents=True)
        yield part
        put_in_place(part, folder, old)
