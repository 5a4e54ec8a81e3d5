"""Reading a training checkpoint that names foreign classes, without importing or running any of them.

The published DWPose file holds, beside its weights, the logs of its training as objects of mmengine and numpy. torch's
safe unpickler refuses names it does not know; here each of them is given to it as a class that does nothing.
"""

from __future__ import annotations

import pickletools
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

# What torch takes for safe is one list for the whole process.
_list_of_names = threading.Lock()


class Inert:
    """Stands for any foreign class or function: takes every argument and keeps none."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class InertMapping(Inert):
    """Stands for a class of mappings: torch's unpickler sets items only in its own kinds of them."""

    def __new__(cls, *arguments: Any) -> Any:
        return OrderedDict()


class InertList(Inert):
    """Stands for a class of lists, likewise."""

    def __new__(cls, *arguments: Any) -> Any:
        return []


def load_inertly(path: Path) -> Any:
    """What a torch file of the zip format holds, every foreign object in it replaced by nothing of use.

    Only for contents of which the tensors alone are looked at. Raises whatever the reader makes of a file that is
    damaged, of the older format, or names one of the modules torch blocks.
    """
    with _no_names_but_torchs():
        names = torch.serialization.get_unsafe_globals_in_checkpoint(cast(str, path))
        stand_ins = _stand_ins(path)
        torch.serialization.add_safe_globals([(stand_ins.get(name, Inert), name) for name in names])
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


@contextmanager
def _no_names_but_torchs() -> Iterator[None]:
    """Put aside what a host has added to torch's list.

    Where some of numpy's names are real and some inert, as in ComfyUI, objects made of both fail.
    """
    with _list_of_names:
        hosts = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(hosts)


def _stand_ins(path: Path) -> dict[str, type[Inert]]:
    """For each class name in the pickle whose objects are filled as a mapping or a list: what stands for it.

    The pickle is read as a list of instructions, none of which is carried out. Its stack and memo hold, instead of
    objects, the name each object was made from; None for everything else.
    """
    found: dict[Any, type[Inert]] = {}
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    mark = pickletools.markobject
    argument: Any
    for opcode, argument, _ in pickletools.genops(_pickle_of(path)):
        before = opcode.stack_before
        if mark in before:
            while stack and stack.pop() is not mark:
                pass
            before = before[: before.index(mark)]
        made_from = stack[-len(before)] if 0 < len(before) <= len(stack) else None
        if before:
            del stack[-len(before) :]
        if opcode.name == "GLOBAL":
            made_from = argument.replace(" ", ".")
        elif opcode.name in ("APPEND", "APPENDS"):
            found[made_from] = InertList
        elif opcode.name in ("SETITEM", "SETITEMS"):
            found[made_from] = InertMapping
        elif opcode.name in ("BINPUT", "LONG_BINPUT") and stack:
            memo[argument] = stack[-1]
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            made_from = memo.get(argument)
        elif opcode.name not in ("NEWOBJ", "REDUCE", "BUILD"):
            made_from = None
        stack += [mark if item is mark else made_from for item in opcode.stack_after]
    return found


def _pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        return archive.read(name)
