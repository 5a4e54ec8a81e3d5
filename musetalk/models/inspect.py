"""What the weight files of a folder are, without reading the weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelFileError
from .architecture import make_network
from .checkpoints import examine
from .layout import version_of, weight_files


def inspect_models(models_dir: Path | str) -> list[dict[str, Any]]:
    """Describe every weight file in a folder and two levels of folders below it.

    Each dict has ``file`` (path below the folder), ``kind`` (see `signatures.Kind`; or None), ``version`` (v15, v1,
    or None where a UNet does not say and for every other kind), ``dtype`` (names joined with a comma), ``parameters``
    (of the network alone, not of what else is in the file), ``size`` (bytes), ``config`` (dict or None) and
    ``problem``: why the file cannot be used, else None.
    Raises ModelFileError when the folder does not exist.
    """
    folder = Path(models_dir)
    if not folder.is_dir():
        raise ModelFileError(f"{folder}: no such folder; give the folder of the models")
    return [_inspect(path, folder) for path in weight_files(folder)]


def _inspect(path: Path, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file": str(path.relative_to(folder)),
        "kind": None,
        "version": None,
        "dtype": None,
        "parameters": None,
        "size": path.stat().st_size,
        "config": None,
        "problem": None,
    }
    try:
        checkpoint = examine(path)
    except ModelFileError as error:
        entry["problem"] = str(error)
        return entry
    with torch.device("meta"):
        network = make_network(checkpoint.kind, checkpoint.config)
    entry.update(
        kind=checkpoint.kind,
        version=version_of(checkpoint, folder) if checkpoint.kind == "unet" else None,
        dtype=", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in checkpoint.dtypes)),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        config=None if checkpoint.config is None else asdict(checkpoint.config),
    )
    return entry
