"""Libraries that only some users need: imported when used, with an error that names the way to get them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from .errors import InputError


def require(module: str, extra: str) -> ModuleType:
    """Import a library of an optional extra. Raises InputError naming the extra where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"this needs {module.split('.')[0]}, which is not installed ({error}): "
            f"pip install 'musetalk-studio[{extra}]'"
        ) from error
