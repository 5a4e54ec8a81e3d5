"""Apply MuseTalk LoRA."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, cast

from comfy_api.latest import io

from ..musetalk.errors import InputError
from ..musetalk.models.lora import load_lora, lora_patches
from ..musetalk.models.unet import UNet
from .host.loras import lora_files, lora_path
from .host.networks import MuseTalkModel
from .schema import Model as ModelSocket
from .schema import make_schema, model_input

logger = logging.getLogger(__name__)


class ApplyLoRA(io.ComfyNode):
    """A model to the same model with a person or a style learned on top."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkApplyLoRA",
            display_name="Apply MuseTalk LoRA",
            category="MuseTalk/loaders",
            description="Adds a LoRA, trained on a person or a style, to the MuseTalk UNet. Several can follow each "
            "other; the model that comes in stays as it is.",
            search_aliases=["musetalk", "lora", "adapter", "personalize", "fine-tune"],
            inputs=[
                model_input(),
                io.Combo.Input(
                    "lora",
                    options=lora_files(),
                    tooltip="A LoRA made by musetalk train-adapter, in models/musetalk or models/loras. LoRAs of "
                    "other models are not listed.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip="How much of it, default 1: as trained. 0 changes nothing, above 1 exaggerates, below 0 "
                    "does the opposite.",
                ),
            ],
            outputs=[ModelSocket.Output("model_out", display_name="model", tooltip="The UNet with the LoRA added.")],
        )

    @classmethod
    def validate_inputs(cls, lora: str = "") -> bool | str:
        # Not left to ComfyUI: 0.3.64 does not look whether a choice is on the list.
        try:
            if lora:
                lora_path(lora)
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora: str, **_: Any) -> Any:
        status = lora_path(lora).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, model: MuseTalkModel, lora: str, strength: float) -> io.NodeOutput:
        if strength == 0:
            return io.NodeOutput(model)
        path = lora_path(lora)
        loaded = load_lora(path, cast(UNet, model.unet.network).config)
        if loaded.version != model.version:
            logger.warning("%s was trained on MuseTalk %s, the model is of %s", path, loaded.version, model.version)
        return io.NodeOutput(replace(model, unet=model.unet.patched(lora_patches(loaded), strength)))
