"""The folder of checkpoints: each one complete or absent, the newest few of one history kept."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelFileError, OutputError
from .state_file import complete_or_absent

logger = logging.getLogger(__name__)

FORMAT = 1
FACTS = "checkpoint.json"
_NAME = re.compile(r"step-(\d{6,})")
_PART = ".step-*.part"
_ABANDONED = "abandoned-"
# What every checkpoint tells, whatever it is of.
_FACTS: dict[str, type] = {"step": int, "processes": int, "config": dict}


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

    def go_on_from(self, start: Path | None) -> None:
        """Set aside, under another name, what is no past of a run that begins at ``start``.

        That is every later checkpoint, and all of them where ``start`` lies elsewhere: taken for the newest one by
        ``auto``, they would bring back what was given up. Raises OutputError.
        """
        if start is None:
            return
        step = step_of(start) if start.resolve().parent == self.root.resolve() else None
        self._set_aside_after(-1 if step is None else step)

    def _set_aside_after(self, step: int) -> None:
        for path in self.all():
            if (step_of(path) or 0) <= step:
                continue
            name, number = f"{_ABANDONED}{path.name}", 2
            while (self.root / name).exists():
                name, number = f"{_ABANDONED}{path.name}-{number}", number + 1
            try:
                path.rename(self.root / name)
            except OSError as error:
                raise OutputError(f"{path}: cannot be renamed to {name} ({error}); move it away by hand") from error
            logger.warning("%s is of a course this run does not take: renamed to %s, delete it at will", path, name)

    def begin(self, step: int) -> Path:
        """An empty folder to write the checkpoint of that step into. Raises OutputError."""
        part = self.part_of(step)
        with complete_or_absent(part):
            for left in self.root.glob(_PART):  # by a run that was killed
                shutil.rmtree(left)
            part.mkdir(parents=True)
        return part

    def part_of(self, step: int) -> Path:
        """Where the checkpoint of that step lies while it is written."""
        return self.root / f".{_name(step)}.part"

    def path_of(self, step: int) -> Path:
        return self.root / _name(step)

    def finish(self, step: int, facts: dict[str, Any]) -> Path:
        """Make what was written since `begin` a checkpoint, and let go of the oldest beyond ``keep``.

        Raises OutputError, and then there is no such checkpoint.
        """
        part, path = self.part_of(step), self.path_of(step)
        text = json.dumps({"format": FORMAT, "step": step, **facts}, indent=2)
        with complete_or_absent(part):
            (part / FACTS).write_text(text + "\n", encoding="utf-8")
            if path.exists():
                shutil.rmtree(path)
            part.rename(path)
        # Nothing later may be left, or the one just written could count as the oldest.
        self._set_aside_after(step)
        for old in self.all()[: -self.keep]:
            self._delete(old)
        return path

    def _delete(self, path: Path) -> None:
        # Renamed first: half deleted it must not look complete.
        part = self.root / f".{path.name}.part"
        try:
            path.rename(part)
            shutil.rmtree(part)
        except OSError as error:
            logger.warning("%s: the old checkpoint cannot be deleted (%s)", path, error)


def read_facts(path: Path, **also: type) -> dict[str, Any]:
    """What ``checkpoint.json`` says: step, processes, config, and what is asked for by name and type besides.

    Raises ModelFileError where it is damaged, lacks any of these, or is of another format.
    """
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}, this version reads {FORMAT}")
        for name, kind in {**_FACTS, **also}.items():
            if type(facts.get(name)) is not kind:
                raise ValueError(f"{name} is {facts.get(name)!r}")
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
