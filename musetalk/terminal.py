"""Progress in a terminal."""

from __future__ import annotations

from types import TracebackType

from tqdm import tqdm

_TITLES = {
    "audio": "sound",
    "faces": "finding the face",
    "prepare": "preparing",
    "frames": "lip sync",
    "download": "",
}


class TerminalProgress:
    """A progress bar on stderr, with the stage's name and its frames per second; call it as ``StageProgress``."""

    def __init__(self, *, quiet: bool, unit: str = "frame", unit_scale: bool = False) -> None:
        self._quiet = quiet
        self._unit = unit
        self._unit_scale = unit_scale
        self._stage = ""
        self._bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._quiet or total == 0:
            return
        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            title = _TITLES.get(stage, stage)
            self._bar = tqdm(total=total, desc=title, unit=self._unit, unit_scale=self._unit_scale, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
