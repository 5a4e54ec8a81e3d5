"""Frechet distance between the pictures of two folders (FID)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..extras import require
from ..models.load import resolve_device
from ..video.frames import FrameSource
from ..video.images import IMAGE_SUFFIXES
from .hub_weights import hub_weights
from .progress import Step, no_step

_INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}
_BATCH_BYTES, _MOST = 64 << 20, 32
_LEAST_PICTURES = 2


@dataclass(frozen=True)
class FidScore:
    """fid: 0 for the same pictures, larger for other ones. first, second: how many pictures each folder gave."""

    fid: float
    first: int
    second: int


def measure_fid(
    first: Path | str,
    second: Path | str,
    *,
    features: torch.nn.Module | None = None,
    device: str | None = None,
    progress: Step = no_step,
) -> FidScore:
    """FID of two folders of pictures and videos (every frame of them); a single file will do, too.

    features: from uint8 ``[n, 3, H, W]`` to ``[n, num_features]``, with ``num_features`` as its attribute; by default
        the Inception network of the FID paper, for which torch-fidelity and its weights have to be installed. Nothing
        is downloaded.
    progress: called with files done and files in all.

    Raises InputError for a folder with fewer than two pictures, or when the library or the weights are missing, and
    ModelFileError for weights that are no plain tensors.
    """
    metric_class = require("torchmetrics.image.fid", "evaluate").FrechetInceptionDistance
    listed = [_list_files(Path(folder)) for folder in (first, second)]
    place = resolve_device(device)
    if features is None:
        metric = metric_class(feature=2048, feature_extractor_weights_path=str(_inception_weights()))
    else:
        metric = metric_class(feature=features)
    metric = metric.to(place)
    counts, done = [0, 0], 0
    for side, files in enumerate(listed):
        for file in files:
            for batch in _batches(file):
                pictures = torch.from_numpy(batch).permute(0, 3, 1, 2).to(place)
                with torch.inference_mode():
                    metric.update(pictures, real=side == 0)
                counts[side] += len(batch)
            done += 1
            progress(done, sum(map(len, listed)))
    for folder, count in zip((first, second), counts, strict=True):
        if count < _LEAST_PICTURES:
            raise InputError(f"{folder} has {count} picture; FID needs {_LEAST_PICTURES}, and thousands to mean much")
    # Rounding can leave it a hair below zero.
    return FidScore(max(0.0, float(metric.compute())), *counts)


def _inception_weights() -> Path:
    try:
        import torch_fidelity  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"FID needs torch-fidelity's Inception network, which is not installed ({error}): "
            "pip install 'musetalk-studio[evaluate]' torch-fidelity"
        ) from error
    return hub_weights(_INCEPTION, _INCEPTION_URL)


def _list_files(path: Path) -> list[Path]:
    wanted = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; give a folder of pictures or videos")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in wanted and file.is_file())
    if not files:
        raise InputError(f"{path} holds no picture and no video ({', '.join(sorted(wanted))})")
    return files


def _batches(file: Path) -> Iterator[np.ndarray]:
    with FrameSource.open(file) as frames:
        size = min(_MOST, max(1, _BATCH_BYTES // (3 * frames.width * frames.height)))
        for start in range(0, len(frames), size):
            yield frames[start : start + size]
