"""A LoRA as a file: safetensors with diffusers' names, and a header that says what it belongs to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError, ModelFileError, OutputError
from ..profile import Version
from ..video.target import check_free, hidden_sibling
from .low_rank import LoRA, LowRank, Targets, targets_of
from .signatures import Shapes, recognise
from .unet import UNetConfig
from .weight_file import WeightFile

SUFFIX = ".safetensors"
HEADER_MARK = "musetalk_lora"
"""In the metadata of every file written here; its value is the format's version."""
FORMAT = "1"
_PREFIX = "unet."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_SHOWN_NAMES = 4
_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
# How other trainers call the matrix that reads a cross-attention's context, whose width tells the model's family.
_CONTEXT = re.compile(r"attn2[._](processor\.)?to_k[._](lora[._])?(lora_A|lora_down|down)\b")


def save_lora(lora: LoRA, path: Path, config: UNetConfig, *, overwrite: bool = False) -> None:
    """Write a LoRA, float16, under 50 MB. config: sizes of the UNet it belongs to.

    Names are ``unet.<projection>.lora_A.weight`` and ``.lora_B.weight``, as diffusers and PEFT have them, with their
    ``lora_adapter_metadata`` for alpha. The file is there whole or not at all.
    Raises InputError for a LoRA that is none of this UNet or has values float16 cannot hold, OutputError.
    """
    check_lora_target(path, overwrite=overwrite)
    targets = targets_of(config)
    targets.check(lora.rank, lora.alpha)
    tensors = {}
    for name, layer in lora.layers.items():
        tensors[f"{_PREFIX}{name}{_DOWN}"] = layer.down
        tensors[f"{_PREFIX}{name}{_UP}"] = layer.up
    problem = _misfit({name: tuple(tensor.shape) for name, tensor in tensors.items()}, lora.rank, targets)
    if problem:
        raise InputError(f"the LoRA does not fit the UNet: {problem}")
    halves = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    if not all(torch.isfinite(tensor).all() for tensor in halves.values()):
        raise InputError("the LoRA has values that are no numbers or too large for float16; train it at a lower rate")
    part = hidden_sibling(path)
    try:
        save_file(halves, part, metadata=_header(lora, targets))
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {path} ({error}); free some room or choose another place") from error
    finally:
        part.unlink(missing_ok=True)


def check_lora_target(path: Path, *, overwrite: bool = False) -> None:
    """Raise OutputError unless a LoRA can be written to ``path``."""
    if path.suffix.lower() != SUFFIX:
        raise OutputError(f"{path}: a LoRA is a {SUFFIX} file; name it so")
    check_free(path, overwrite)
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first")
    probe = hidden_sibling(path)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write in the folder {path.parent} ({error.strerror}); choose another") from error


def load_lora(path: Path, config: UNetConfig | None = None) -> LoRA:
    """Read a LoRA for a UNet of these sizes (default: the published ones), on the CPU in the file's dtype.

    Projections that the file leaves out stay as they are. Nothing in the file is run.
    Raises ModelFileError for a file that is damaged, no LoRA, or one for another network; the message says which.
    """
    if path.suffix.lower() != SUFFIX:
        raise ModelFileError(f"{path}: a LoRA is read from {SUFFIX} files only")
    targets = targets_of(config or UNetConfig())
    with WeightFile(path) as file:
        if not any(name.endswith((_DOWN, _UP)) and name.startswith(_PREFIX) for name in file.shapes):
            raise ModelFileError(f"{path}: not a MuseTalk LoRA but {_what_it_is(file.shapes)}")
        rank = _rank(file.shapes)
        problem = _misfit(file.shapes, rank, targets)
        if problem:
            raise ModelFileError(f"{path}: {_foreign_family(file.shapes) or 'not a LoRA for this UNet'} ({problem})")
        alpha, version = _read_header(path, file.metadata, rank, targets)
        tensors = {name: _read_tensor(file, name) for name in file.shapes}
    names = [name.removeprefix(_PREFIX).removesuffix(_DOWN) for name in tensors if name.endswith(_DOWN)]
    layers = {name: LowRank(tensors[f"{_PREFIX}{name}{_DOWN}"], tensors[f"{_PREFIX}{name}{_UP}"]) for name in names}
    return LoRA(rank, alpha, version, layers)


def _header(lora: LoRA, targets: Targets) -> dict[str, str]:
    projections = sorted({re.split(r"\.(?=to_)", name)[-1] for name in lora.layers})
    peft = {
        "unet.peft_type": "LORA",
        "unet.r": lora.rank,
        "unet.lora_alpha": lora.alpha,
        "unet.target_modules": projections,
        "unet.bias": "none",
    }
    return {
        "format": "pt",
        HEADER_MARK: FORMAT,
        "musetalk_version": lora.version,
        "rank": str(lora.rank),
        "alpha": repr(lora.alpha),
        "base_fingerprint": targets.fingerprint,
        "lora_adapter_metadata": json.dumps(peft),
    }


def _read_header(path: Path, header: Mapping[str, str], rank: int, targets: Targets) -> tuple[float, Version]:
    """Alpha and version; everything else is compared with what is known."""
    written = header.get(HEADER_MARK)
    if written is None:
        raise ModelFileError(
            f"{path}: its header lacks {HEADER_MARK}; only LoRAs made by `musetalk train-adapter` are read"
        )
    if written != FORMAT:
        raise ModelFileError(f"{path}: a LoRA of format {written}; this version reads {FORMAT}: update musetalk")
    if header.get("base_fingerprint") != targets.fingerprint:
        raise ModelFileError(f"{path}: trained for a UNet of other sizes; use it with the models it was trained with")
    if header.get("rank") != str(rank):
        raise ModelFileError(f"{path}: its header says rank {header.get('rank')}, its tensors {rank}; it is damaged")
    version = header.get("musetalk_version")
    if version not in get_args(Version):
        raise ModelFileError(f"{path}: for MuseTalk {version}; this version knows {', '.join(get_args(Version))}")
    try:
        alpha = float(header.get("alpha", ""))
    except ValueError:
        alpha = math.nan
    if not (math.isfinite(alpha) and alpha > 0):
        raise ModelFileError(f"{path}: its header says alpha {header.get('alpha')}, which is no number above 0")
    return alpha, cast(Version, version)


def _rank(shapes: Shapes) -> int:
    """What the first matrix says; `_misfit` compares all others with it."""
    name = next(name for name in shapes if name.endswith((_DOWN, _UP)) and name.startswith(_PREFIX))
    shape = shapes[name]
    return (shape[0] if name.endswith(_DOWN) else shape[1]) if len(shape) == 2 else 0


def _misfit(shapes: Shapes, rank: int, targets: Targets) -> str:
    """What keeps tensors of these names and shapes from being a LoRA of that rank; empty where nothing does."""
    if not shapes:
        return "it changes nothing"
    if not 1 <= rank <= targets.largest_rank:
        return f"rank {rank}, not 1 to {targets.largest_rank}"
    wanted: dict[str, tuple[int, int]] = {}
    for name, (outputs, inputs) in targets.shapes.items():
        wanted[f"{_PREFIX}{name}{_DOWN}"] = (rank, inputs)
        wanted[f"{_PREFIX}{name}{_UP}"] = (outputs, rank)
    unknown = [name for name in shapes if name not in wanted]
    misshapen = [
        f"{name} {list(shape)} instead of {list(wanted[name])}"
        for name, shape in shapes.items()
        if name in wanted and shape != wanted[name]
    ]
    alone = [name for name in shapes if name in wanted and _other_half(name) not in shapes]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN_NAMES])}"
        for what, names in (("of another shape", misshapen), ("unknown", unknown), ("without its other half", alone))
        if names
    ]
    return "; ".join(problems)


def _other_half(name: str) -> str:
    return name.removesuffix(_DOWN) + _UP if name.endswith(_DOWN) else name.removesuffix(_UP) + _DOWN


def _read_tensor(file: WeightFile, name: str) -> Tensor:
    if not file.dtypes[name].is_floating_point or file.dtypes[name].itemsize < 2:
        raise ModelFileError(
            f"{file.path}: tensor {name} is {file.dtypes[name]}; a LoRA is float16, bfloat16 or float32"
        )
    tensor = file.tensor(name).clone()
    if not torch.isfinite(tensor).all():
        raise ModelFileError(
            f"{file.path}: tensor {name} has values that are no finite numbers; train or download it anew"
        )
    return tensor


def _what_it_is(shapes: Shapes) -> str:
    family = _foreign_family(shapes)
    if family:
        return family
    if any("lora" in name for name in shapes):
        return f"a LoRA under other names, such as {next(name for name in shapes if 'lora' in name)}"
    return recognise(shapes).title


def _foreign_family(shapes: Shapes) -> str:
    """Which image model a LoRA is for, by the width of the text its cross-attention reads; empty if none is known."""
    widths = (shape[-1] for name, shape in shapes.items() if shape and _CONTEXT.search(name))
    family = _FAMILIES.get(next(widths, 0))
    return f"a LoRA for {family}'s UNet, which draws images from text" if family else ""
