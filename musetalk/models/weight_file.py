"""Reading weight files without running anything in them.

A ``WeightFile`` shows names, shapes and dtypes at once and reads a tensor only when asked: safetensors by its
header, torch files by memory mapping where their format allows it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelFileError
from .inert import load_inertly
from .signatures import FACE_KINDS, recognise

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
# Where a training checkpoint keeps the weights: Lightning and many others; OpenAI's Whisper.
WRAPPERS = ("state_dict", "model_state_dict")
_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class WeightFile:
    """The tensors of one file, as a context manager.

    path: where it lies.
    shapes: shape of every tensor by name.
    dtypes: dtype of every tensor by name.
    metadata: the strings a safetensors header carries; empty for torch files.
    """

    def __init__(self, path: Path):
        """Open ``path``; raises ModelFileError if it is missing, damaged, or not plain tensors."""
        self.path = path
        self.metadata: dict[str, str] = {}
        self._tensors: dict[str, Tensor] = {}
        self._safetensors: Any = None
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
        if path.stat().st_size == 0:
            raise ModelFileError(f"{path}: the file is empty; delete it and download it again")
        if path.suffix.lower() == ".safetensors":
            self._open_safetensors()
        else:
            self._tensors = _read_torch(path)
            self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
            self.dtypes = {name: tensor.dtype for name, tensor in self._tensors.items()}

    def _open_safetensors(self) -> None:
        # safe_open checks that header and file size agree, so a cut download is found here.
        try:
            file = safe_open(self.path, framework="pt", device="cpu").__enter__()
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{self.path}: {_what_it_is(self.path)} ({error})") from error
        self._safetensors = file
        self.metadata = dict(file.metadata() or {})
        self.shapes, self.dtypes = {}, {}
        for name in file.keys():  # noqa: SIM118 - not a mapping
            view = file.get_slice(name)
            dtype = _SAFETENSORS_DTYPES.get(view.get_dtype())
            if dtype is None:
                raise ModelFileError(f"{self.path}: tensor {name} has the unsupported dtype {view.get_dtype()}")
            self.shapes[name] = tuple(view.get_shape())
            self.dtypes[name] = dtype

    def tensor(self, name: str) -> Tensor:
        """The tensor called ``name``, on the CPU, possibly backed by the file: copy it before closing."""
        return self._tensors[name] if self._safetensors is None else self._safetensors.get_tensor(name)

    def close(self) -> None:
        self._tensors = {}
        if self._safetensors is not None:
            self._safetensors.__exit__(None, None, None)
            self._safetensors = None

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when the file is absent, no JSON, or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _read_torch(path: Path) -> dict[str, Tensor]:
    if not _looks_like_torch(path):
        raise ModelFileError(f"{path}: {_what_it_is(path)}")
    try:
        # Only the zip format can be mapped; the older one is read whole, by the same safe unpickler.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # what a damaged stream makes the reader raise depends on where it is cut
        tensors = _face_network(path)
        if not tensors:
            raise ModelFileError(f"{path}: {_loading_problem(path, error)}") from error
        return tensors
    tensors = _named_tensors(content)
    if not tensors:
        raise ModelFileError(f"{path}: holds no named tensors (found a {type(content).__name__}); not a state dict")
    return tensors


def _named_tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict or of the one inside a training checkpoint; empty when there is none."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        return {}
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors if all(isinstance(name, str) for name in tensors) else {}


def _face_network(path: Path) -> dict[str, Tensor]:
    """The tensors of a face network whose file names foreign classes as well; empty for any other file.

    Those networks are published only as training checkpoints. Nothing else has a reason to name code.
    """
    try:
        tensors = _named_tensors(load_inertly(path))
    except Exception:  # then it is refused for what the plain reader found
        return {}
    signature = recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return tensors if signature.kind in FACE_KINDS else {}


def _looks_like_torch(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80" or zipfile.is_zipfile(path)


def _loading_problem(path: Path, error: Exception) -> str:
    names: list[str] = []
    if zipfile.is_zipfile(path):
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(cast(str, path))
        except Exception:  # the file is refused either way; this only completes the message
            names = []
    if names or "unsupported global" in str(error).lower():
        found = f" ({', '.join(sorted(names)[:3])})" if names else ""
        return f"refused: it would run code on loading{found}; use a file of plain tensors, best .safetensors"
    detail = (str(error).splitlines() or ["no details"])[0]
    return f"the file is damaged or cut short; download it again ({detail})"


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; fetch it with `git lfs pull` or download it"
    if text.startswith((b"<!doctype", b"<html")):
        return "a web page saved under this name, not weights; download it again"
    if start.startswith(b"PK"):
        return "the file is cut short; download it again"
    return "not a weight file, or cut short; download it again"
