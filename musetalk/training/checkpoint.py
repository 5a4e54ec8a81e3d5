"""The folder of checkpoints: each one complete or absent, the newest few kept."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelFileError, OutputError

FORMAT = 1
FACTS = "checkpoint.json"
_NAME = re.compile(r"step-(\d{6,})")


class Checkpoints:
    """``ROOT/step-000500`` and its like, each written beside as ``.step-000500.part`` and then renamed.

    root: made when the first is written. keep: how many to keep, the newest.
    """

    def __init__(self, root: Path, keep: int) -> None:
        self.root = root
        self.keep = keep

    def all(self) -> list[Path]:
        """The complete ones, oldest first."""
        found = [(step_of(path), path) for path in self.root.glob("step-*") if (path / FACTS).is_file()]
        return [path for step, path in sorted((step, path) for step, path in found if step is not None)]

    def choose(self, resume: str) -> Path | None:
        """The checkpoint to go on from; None to start anew.

        resume: ``auto`` is the newest here, if any; ``none`` starts anew and refuses a folder that holds checkpoints;
            anything else is the path of one. Raises InputError, OutputError.
        """
        if resume == "auto":
            return next(reversed(self.all()), None)
        if resume == "none":
            if self.all():
                raise OutputError(
                    f"{self.root} holds checkpoints of an earlier run; choose another output, or --resume auto"
                )
            return None
        if not (Path(resume) / FACTS).is_file():
            raise InputError(
                f"--resume {resume}: no checkpoint; give auto, none or a folder like {self.root}/step-000500"
            )
        return Path(resume)

    def begin(self, step: int) -> Path:
        """An empty folder to write the checkpoint of that step into."""
        part = self.part_of(step)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        return part

    def part_of(self, step: int) -> Path:
        """Where the checkpoint of that step lies while it is written."""
        return self.root / f".{_name(step)}.part"

    def path_of(self, step: int) -> Path:
        return self.root / _name(step)

    def finish(self, step: int, facts: dict[str, Any]) -> Path:
        """Make what was written since `begin` a checkpoint, and let go of the oldest beyond ``keep``."""
        part, path = self.part_of(step), self.path_of(step)
        text = json.dumps({"format": FORMAT, "step": step, **facts}, indent=2)
        (part / FACTS).write_text(text + "\n", encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)
        return path


def read_facts(path: Path) -> dict[str, Any]:
    """What ``checkpoint.json`` says. Raises ModelFileError where it is damaged or of another format."""
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}, this version reads {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{path / FACTS}: cannot be used ({error}); resume from another with --resume PATH"
        ) from error
    return dict(facts)


def step_of(path: Path) -> int | None:
    """The optimiser steps a checkpoint's folder name tells; None for another folder."""
    match = _NAME.fullmatch(path.name)
    return None if match is None else int(match[1])


def _name(step: int) -> str:
    return f"step-{step:06d}"
