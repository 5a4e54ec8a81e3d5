"""What a run leaves to look at: TensorBoard curves and pictures, every step's losses as text, sample collages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from ..extras import require

LOSSES = "losses.jsonl"


class TrainingLog:
    """Writes ``DIR/tensorboard``, ``DIR/samples`` and ``DIR/losses.jsonl``, as a context manager.

    folder: of the run. steps: done so far; what a stopped run wrote after them is taken back.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        tensorboard = require("torch.utils.tensorboard", "train")
        folder.mkdir(parents=True, exist_ok=True)
        self._samples = folder / "samples"
        losses = folder / LOSSES
        kept = [line for line in _whole_lines(losses) if json.loads(line)["step"] <= steps]
        losses.write_text("".join(kept), encoding="utf-8")
        self._losses = losses.open("a", encoding="utf-8")
        self._writer = tensorboard.SummaryWriter(str(folder / "tensorboard"), purge_step=steps + 1)

    def losses(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of a step, exactly."""
        self._losses.write(json.dumps({"step": step, **values}) + "\n")

    def curves(self, step: int, values: Mapping[str, float], group: str) -> None:
        """Points of TensorBoard's curves ``group/name``."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._losses.flush()

    def picture(self, step: int, picture: np.ndarray) -> None:
        """A collage, uint8 RGB ``[H, W, 3]``, to TensorBoard and as PNG."""
        self._writer.add_image("samples", picture, step, dataformats="HWC")
        self._samples.mkdir(exist_ok=True)
        Image.fromarray(picture).save(self._samples / f"step-{step:06d}.png")

    def flush(self) -> None:
        """Put everything on the disk, so that no checkpoint is newer than the log."""
        self._losses.flush()
        self._writer.flush()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._losses.close()
        self._writer.close()


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that may have been cut while the last was written; none where there is no file."""
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
