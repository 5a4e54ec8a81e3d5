"""From a weight file to a network: examined first without reading the weights, then built."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelFileError
from .architecture import Config, make_network, read_config
from .naming import names_in_file
from .signatures import EXPECTED, TITLES, Kind, Shapes, Signature, recognise
from .weight_file import WeightFile

SHOWN_NAMES = 4


@dataclass(frozen=True)
class Checkpoint:
    """A file whose every tensor is known to fit a network; the weights are not read yet.

    path: the file.
    kind: which network it is.
    signature: how it was recognised.
    config: the network's sizes; None for the face networks, each of which has only one.
    names: our name of each tensor to its name in the file.
    dtypes: the dtypes that occur in the file.
    metadata: strings of a safetensors header.
    """

    path: Path
    kind: Kind
    signature: Signature
    config: Config
    names: Mapping[str, str] = field(repr=False)
    dtypes: frozenset[torch.dtype]
    metadata: Mapping[str, str]

    def build(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, operations: Any = nn
    ) -> nn.Module:
        """Read the weights into a network in ``dtype`` on ``device``, frozen and in evaluation mode.

        operations: the namespace the layers come from (see `layers`).
        Each tensor goes straight to its final place, so memory holds the weights once. Afterwards the file
        may be replaced or deleted. Raises ModelFileError when the file changed since it was examined.
        """
        with torch.device("meta"):
            network = make_network(self.kind, self.config, operations).requires_grad_(False)
        network.load_state_dict(self.read(device, dtype), strict=True, assign=True)
        return network.eval()

    def read(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The weights by our names, as `build` uses them, copied out of the file."""
        # Asked of plain layers: those of a host may have no weights to show before they are loaded.
        with torch.device("meta"):
            shapes = make_network(self.kind, self.config).state_dict()
        placed: dict[str, Tensor] = {}
        with WeightFile(self.path) as file:
            for name, wanted in shapes.items():
                stored = self.names[name]
                if math.prod(file.shapes.get(stored, (0,))) != wanted.numel():
                    raise ModelFileError(f"{self.path}: the file changed while it was read; load it again")
                tensor = file.tensor(stored).reshape(wanted.shape)
                target = dtype if wanted.is_floating_point() else wanted.dtype
                placed[name] = tensor.to(device=device, dtype=target, copy=True)
        return placed


def examine(path: Path, kind: Kind | None = None) -> Checkpoint:
    """Recognise a weight file and check every name and shape in it, without reading the weights.

    kind: what the file has to be; None takes any that is known.
    Raises ModelFileError when the file is missing, damaged, another network (named in the message with what
    was expected and what was found), or lacks or misshapes tensors.
    """
    with WeightFile(path) as file:
        signature = recognise(file.shapes)
        if signature.kind is None or (kind is not None and signature.kind != kind):
            raise ModelFileError(_wrong_kind(path, kind, signature))
        names = names_in_file(signature, file.shapes)
        shapes = {ours: _squeezed(ours, file.shapes[theirs]) for ours, theirs in names.items()}
        config = read_config(signature.kind, shapes, path, file.metadata)
        _check_fit(path, signature.kind, config, shapes)
        for name, file_name in names.items():
            if name.endswith(("weight", "bias")) and not file.dtypes[file_name].is_floating_point:
                raise ModelFileError(
                    f"{path}: tensor {file_name} is {file.dtypes[file_name]}; quantised files are not read"
                )
        dtypes = frozenset(file.dtypes[theirs] for ours, theirs in names.items() if ours.endswith(("weight", "bias")))
        return Checkpoint(path, signature.kind, signature, config, names, dtypes, dict(file.metadata))


def _squeezed(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Single-file VAEs store attention's linear layers as 1x1 convolutions."""
    is_attention = ".mid_block.attentions.0.to_" in name
    return shape[:2] if is_attention and len(shape) == 4 and shape[2:] == (1, 1) else shape


def _wrong_kind(path: Path, kind: Kind | None, signature: Signature) -> str:
    found = f"found {signature.title} ({signature.evidence or 'no telling tensors'})"
    if kind is None:
        return f"{path}: {found}; no network is loaded from it"
    return f"{path}: expected {TITLES[kind]} ({EXPECTED[kind]}), {found}"


def _check_fit(path: Path, kind: Kind, config: Config, found: Shapes) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in make_network(kind, config).state_dict().items()}
    problems = []
    missing = [name for name in wanted if name not in found]
    if missing:
        problems.append(f"{len(missing)} tensors missing: {_some(missing)}")
    unexpected = [name for name in found if name not in wanted]
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected: {_some(unexpected)}")
    misshapen = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if misshapen:
        problems.append(f"{len(misshapen)} of another shape: {_some(misshapen)}")
    if problems:
        raise ModelFileError(f"{path}: not {TITLES[kind]} as published ({'; '.join(problems)})")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")
