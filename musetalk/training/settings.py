"""Dataclasses from YAML: every key known, every value of its type, every refusal with the key's full name. And back."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from ..errors import InputError

T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises InputError where there is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}; a configuration is a mapping of sections")
    return content


def with_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of nested mappings with ``section.key=value`` texts applied; values are read as YAML.

    Raises InputError for a text without ``=``, a value that is no YAML, and a path through a plain value.
    """
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {override}: write it as key=value, such as data.batch_size=4")
        *sections, key = name.strip().split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {override}: {section} is a value, not a section")
        try:
            place[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {override}: the value is not YAML ({error})") from error
    return result


def build(cls: type[T], content: Any, where: str = "") -> T:
    """A dataclass from a mapping, nested dataclasses included.

    where: the section's name, for messages. Raises InputError for unknown and missing keys and for values of another
    type; what a value may be is checked by the class's own ``__post_init__``.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where or 'the configuration'} is {content!r}; it must be a section of keys and values")
    known = {field.name: field for field in fields(cast(Any, cls)) if field.init}
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {_full(where, near[0])}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"unknown key {_full(where, key)}; {hint}")
    hints = get_type_hints(cls)
    values = {}
    for name, field in known.items():
        if name in content:
            values[name] = _convert(hints[name], content[name], _full(where, name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InputError(
                f"{_full(where, name)} is missing from the configuration; set it in the file or with --set"
            )
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from error


def to_plain(settings: Any) -> dict[str, Any]:
    """A dataclass as nested mappings with paths as texts, for JSON; `build` takes them."""
    plain: dict[str, Any] = _with_texts(asdict(settings))
    return plain


def _with_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_texts(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _full(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(kind: Any, value: Any, name: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        (kind,) = (part for part in get_args(kind) if part is not type(None))
        return _convert(kind, value, name)
    if origin is Literal:
        if value not in get_args(kind):
            raise InputError(f"{name} is {value!r}; use one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{name} is {value!r}; it must be a list")
        return tuple(_convert(get_args(kind)[0], item, f"{name}[{index}]") for index, item in enumerate(value))
    if is_dataclass(kind):
        return build(cast(Any, kind), value, name)
    return _plain(kind, value, name)


def _plain(kind: type, value: Any, name: str) -> Any:
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError):  # YAML takes 2e-5, without a point, for a text
            value = float(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} is {value}; it must be a finite number")
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if type(value) is not kind:
        raise InputError(f"{name} is {value!r}, of type {type(value).__name__}; it must be of type {kind.__name__}")
    return value
