"""Whether all processes of a run see one folder, found out before they train."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import torch

from ..errors import OutputError
from ..extras import require

# Network file systems tell other machines of a new file late; NFS after a minute at most unless set otherwise.
PATIENCE = 65.0


def check_shared(folder: Path, accelerator: Any, patience: float = PATIENCE) -> None:
    """Make sure that what the main process writes into ``folder`` can be read by all. Every process has to call it.

    patience: seconds to wait for a file to appear.
    Raises OutputError, in every process, where it cannot be written or one does not see it.
    """
    if accelerator.num_processes == 1:
        return
    names: list[str | None] = [None]
    if accelerator.is_main_process:
        names = [_write(folder)]
    require("accelerate.utils", "train").broadcast_object_list(names)
    if names[0] is None:
        raise OutputError(f"{folder}: cannot be written to by the main process; choose another output")
    probe = folder / names[0]
    blind = torch.tensor(float(not _appears(probe, patience)), device=accelerator.device)
    blind = accelerator.reduce(blind, reduction="sum")
    if accelerator.is_main_process:
        probe.unlink(missing_ok=True)
    if blind > 0:
        raise OutputError(
            f"{folder}: {int(blind)} of {accelerator.num_processes} processes do not see what the main one writes "
            "there; choose an output that all machines share, under the same path"
        )


def _write(folder: Path) -> str | None:
    """The name of a new file, which nothing left by an earlier run can be taken for."""
    name = f".shared-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    except OSError:
        return None
    return name


def _appears(path: Path, patience: float) -> bool:
    end = time.monotonic() + patience
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
