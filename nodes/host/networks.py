"""Networks under ComfyUI's memory management: one ModelPatcher each, shared by all who load the same file."""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from comfy.weight_adapter.lora import LoRAAdapter

from ...musetalk.models.architecture import make_network
from ...musetalk.models.checkpoints import Checkpoint
from ...musetalk.models.load import DTYPES, arrange_for_cpu
from ...musetalk.models.lora import Patch
from ...musetalk.models.signatures import FACE_KINDS
from ...musetalk.models.syncnet import load_syncnet
from ...musetalk.models.vae import VAEConfig
from ...musetalk.profile import Version
from .autoencoder import core_config, core_holds, engine_vae

logger = logging.getLogger(__name__)

DTYPE_CHOICES = ("auto", "fp32", "bf16", "fp16")
_HALF_FIRST = [torch.float16, torch.bfloat16, torch.float32]
_loaded: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


class ManagedModel:
    """One network that ComfyUI's manager moves, streams and unloads.

    patcher: its ModelPatcher. network: the engine's module; use it only while it is loaded. dtype: of the weights.
    compute_dtype: of the inputs; another one where the device cannot compute in ``dtype``.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, compute_dtype: torch.dtype) -> None:
        self.path = checkpoint.path
        self._shared_from: ManagedModel | None = None
        self.dtype = dtype
        self.compute_dtype = compute_dtype
        # Normalisation over batches is of plain layers: no release of ComfyUI under 0.20 has a BatchNorm that streams.
        self.network = checkpoint.build(mm.unet_offload_device(), dtype, comfy.ops.manual_cast)
        device = mm.get_torch_device()
        if device.type == "cpu":
            arrange_for_cpu(self.network, dtype)
        # Looked up now: with dynamic memory ComfyUI replaces the class when it starts.
        patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        self.patcher = patcher(self.network, load_device=device, offload_device=mm.unet_offload_device())
        if hasattr(mm, "archive_model_dtypes"):
            mm.archive_model_dtypes(self.network)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.patcher.load_device

    def patched(self, patches: Mapping[str, Patch], strength: float) -> ManagedModel:
        """The same network, with other weights for as long as it is loaded by way of the result's patcher.

        patches: changes by name of the weight, as `lora_patches` makes them; those of this model stay beneath.
        """
        changed = copy.copy(self)
        changed._shared_from = self  # who loads the same file is given this network while anyone uses it
        changed.patcher = self.patcher.clone()
        adapters = {name: LoRAAdapter(set(), patch) for name, patch in patches.items()}
        changed.patcher.add_patches(adapters, strength)
        return changed


@dataclass(frozen=True)
class MuseTalkModel:
    """What a MUSETALK_MODEL socket carries: the UNet and the version its weights belong to."""

    unet: ManagedModel
    version: Version

    @property
    def patcher(self) -> Any:
        """For ComfyUI, which frees outputs that hold models first."""
        return self.unet.patcher


@dataclass(frozen=True)
class FaceModels:
    """What a MUSETALK_FACE_MODELS socket carries; the face mesh is built in.

    parser: the face parser, if there is one. pose: DWPose, where it was chosen to find landmarks. gate: S3FD beside it,
    if there is one. version: of the models they were loaded with.
    """

    parser: ManagedModel | None
    pose: ManagedModel | None
    gate: ManagedModel | None
    version: Version

    @property
    def patcher(self) -> Any:
        largest = self.pose or self.parser
        return None if largest is None else largest.patcher


def load_network(checkpoint: Checkpoint, dtype: str) -> ManagedModel:
    """The network of a file, shared with every other loader of that file in that precision.

    dtype: one of ``DTYPE_CHOICES``; ``auto`` leaves it to ComfyUI and its command line.
    """
    weights, compute = _dtypes(checkpoint, dtype)

    def make() -> ManagedModel:
        logger.info("loading %s", checkpoint.path)
        return ManagedModel(checkpoint, weights, compute)

    return _shared(checkpoint.path, weights, make)


def load_vae(checkpoint: Checkpoint, dtype: str) -> Any:
    """A core VAE made from a diffusers or single-file autoencoder, shared like `load_network`'s.

    Where ComfyUI's own network cannot have its sizes, the engine's runs inside the same core object. ``auto`` prefers
    fp16 to ComfyUI's bf16, which costs this VAE visible detail.
    """
    wanted = mm.vae_dtype(mm.vae_device(), [torch.float16]) if dtype == "auto" else DTYPES[dtype]

    def make() -> Any:
        logger.info("loading %s", checkpoint.path)
        config = checkpoint.config
        assert isinstance(config, VAEConfig)
        if not core_holds(config):
            return engine_vae(checkpoint, wanted)
        return comfy.sd.VAE(sd=checkpoint.read(dtype=wanted), config=core_config(config), dtype=wanted)

    return _shared(checkpoint.path, wanted, make)


def manage_syncnet(path: Path) -> Any:
    """A ModelPatcher around the SyncNet of a file, in float32: ``.model`` once it is loaded.

    Raises ModelFileError for another file.
    """
    # The plain class also with dynamic memory: that needs ComfyUI's own layers.
    return comfy.model_patcher.ModelPatcher(
        load_syncnet(path), load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )


def _shared(path: Path, dtype: torch.dtype, make: Any) -> Any:
    facts = path.stat()
    key = (str(path.resolve()), facts.st_mtime_ns, facts.st_size, dtype)
    found = _loaded.get(key)
    if found is None:
        found = _loaded[key] = make()
    return found


def _dtypes(checkpoint: Checkpoint, wanted: str) -> tuple[torch.dtype, torch.dtype]:
    """Of the weights, and of the computation."""
    device = mm.get_torch_device()
    # An argmax draws the mask or places the landmarks, and these networks are small beside the UNet.
    if checkpoint.kind == "face_parser" or checkpoint.kind in FACE_KINDS:
        return torch.float32, torch.float32
    if wanted != "auto":
        return DTYPES[wanted], DTYPES[wanted]
    with torch.device("meta"):
        network = make_network(checkpoint.kind, checkpoint.config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    weights = mm.unet_dtype(device=device, model_params=parameters, supported_dtypes=_HALF_FIRST)
    if weights not in _HALF_FIRST:  # --fp8... is for larger models than these
        weights = torch.float16
    return weights, mm.unet_manual_cast(weights, device, _HALF_FIRST) or weights
