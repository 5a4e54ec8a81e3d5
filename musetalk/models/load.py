"""A folder of weight files to networks ready to run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ..errors import InputError
from ..included import models_folder
from .audio_encoder import WhisperEncoder
from .checkpoints import Checkpoint
from .face_parser import BiSeNet
from .layout import Version, find_models
from .unet import UNet
from .vae import AutoencoderKL

logger = logging.getLogger(__name__)

DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "fp16": torch.float16,
    "float16": torch.float16,
    "half": torch.float16,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class Models:
    """The networks of one model version, frozen, in evaluation mode, on one device.

    unet, vae, audio_encoder: in ``dtype``.
    face_parser: in float32 whatever ``dtype`` is (its argmax draws the mask); None when its file is absent.
    version: ``"v15"`` or ``"v1"``.
    device, dtype: where and in what precision the networks run.
    files: the file each network came from, by kind (``unet``, ``vae``, ``audio_encoder``, ``face_parser``).
    """

    unet: UNet
    vae: AutoencoderKL
    audio_encoder: WhisperEncoder
    face_parser: BiSeNet | None
    version: Version
    device: torch.device
    dtype: torch.dtype
    files: dict[str, Path]


def load_models(
    models_dir: Path | str,
    version: str = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
) -> Models:
    """Load the networks of a model version from a folder.

    models_dir: a folder in either official layout (spec section 1.1), or holding files of the right
        architecture under any name, up to two folders deep. Safetensors and torch files are read; nothing in
        them is run. The text ``"mini"`` is musetalk-mini, the small demonstration model inside the package
        (v1.5, no face parser); a folder of that name is ``"./mini"`` or ``Path("mini")``.
    version: ``"v15"``, ``"v1"`` or ``"auto"``. The UNets of both versions have the same tensors, so no look
        at the weights can tell them apart: ``auto`` believes the safetensors metadata ``musetalk_version``,
        else the names of the file and its folders, and takes v1.5 when both are there. A file that says
        nothing is taken as v1.5, with a warning.
    device: default is cuda, else mps, else cpu.
    dtype: a torch dtype or one of fp32, fp16, bf16; default is fp16 on cuda and fp32 elsewhere.

    Every file is found and checked before the first weight is read.
    Raises InputError for an unknown version, device or dtype, and ModelFileError for missing, damaged or
    foreign files and for parts of different models; all missing ones are listed at once.
    """
    place = resolve_device(device)
    precision = resolve_dtype(dtype, place)
    found = find_models(models_folder(models_dir), version)
    if precision == torch.float16 and place.type == "cpu":
        logger.warning("fp16 on the CPU is slower than fp32; use dtype='bf16' for speed or 'fp32' for accuracy")

    def build(checkpoint: Checkpoint) -> nn.Module:
        logger.info("loading %s", checkpoint.path)
        network = checkpoint.build(place, torch.float32 if checkpoint.kind == "face_parser" else precision)
        if place.type == "cpu":
            arrange_for_cpu(network, precision)
        return network

    networks = {kind: build(checkpoint) for kind, checkpoint in found.checkpoints.items()}
    return Models(
        unet=cast(UNet, networks["unet"]),
        vae=cast(AutoencoderKL, networks["vae"]),
        audio_encoder=cast(WhisperEncoder, networks["audio_encoder"]),
        face_parser=cast("BiSeNet | None", networks.get("face_parser")),
        version=found.version,
        device=place,
        dtype=precision,
        files={kind: checkpoint.path for kind, checkpoint in found.checkpoints.items()},
    )


def resolve_device(device: torch.device | str | None) -> torch.device:
    """The device meant by a name; None picks cuda, else mps, else cpu. Raises InputError if absent."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device is {device!r}; use 'cuda', 'cuda:1', 'mps' or 'cpu'") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device is {device!r}, but this PyTorch sees no CUDA device; use device='cpu'")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device is {device!r}, but there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device is {device!r}, but this PyTorch sees no Apple GPU; use device='cpu'")
    return resolved


def resolve_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    """The dtype meant by a name; None picks fp16 on cuda and fp32 elsewhere. Raises InputError for others."""
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    resolved = DTYPES.get(dtype.lower()) if isinstance(dtype, str) else dtype
    if resolved not in DTYPES.values():
        raise InputError(f"dtype is {dtype!r}; use one of {', '.join(DTYPES)}")
    return cast(torch.dtype, resolved)


def arrange_for_cpu(network: nn.Module, dtype: torch.dtype) -> None:
    """Store the convolutions' weights channels-last, which is up to twice as fast on a CPU."""
    if isinstance(network, (UNet, AutoencoderKL)):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(network, AutoencoderKL) and dtype == torch.float32:
        # See AutoencoderKL.encode: channels-last would cost the fp32 encoder its accuracy.
        network.encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
