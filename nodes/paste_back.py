"""VAE Decode and Paste Back, and Paste Back Faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..musetalk.compose import paste_back
from ..musetalk.errors import InputError
from ..musetalk.latents import SCALING_FACTOR, decode_faces
from ..musetalk.playback import source_index
from .host.media import empty_image
from .host.progress import Progress
from .host.running import engine_models
from .pictures import fill, full_mask, to_uint8
from .sampling import LOOP_KEY
from .schema import avatar_input, batch_size_input, loop_input, make_schema, vae_input

_CATEGORY = "MuseTalk/paste back"


class DecodePasteBack(io.ComfyNode):
    """Predicted latents to whole frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkDecodePasteBack",
            display_name="VAE Decode and Paste Back",
            category=_CATEGORY,
            description="Decodes the redrawn faces and blends them into the footage. Pixels outside the mask stay as "
            "filmed, bit for bit; so do frames without a face.",
            search_aliases=["musetalk", "lip sync", "composite", "vae decode"],
            inputs=[
                vae_input(),
                avatar_input(),
                io.Latent.Input("latent", tooltip="The redrawn faces, from Latent Inpaint UNet."),
                batch_size_input(),
            ],
            outputs=[
                io.Image.Output("frames", display_name="frames"),
                io.Image.Output("faces", display_name="faces", tooltip="The 256x256 faces, for a face restorer."),
                io.Mask.Output("mask", display_name="mask", tooltip="What was redrawn in each frame, white."),
            ],
        )

    @classmethod
    def execute(cls, vae: Any, avatar: Any, latent: dict[str, Any], batch_size: int) -> io.NodeOutput:
        samples = latent["samples"]
        if samples.ndim != 4 or samples.shape[1] != 4 or 0 in samples.shape:
            raise InputError(f"the latent input is {list(samples.shape)}; connect Latent Inpaint UNet ([N, 4, 32, 32])")
        loop = latent.get(LOOP_KEY, "ping-pong")
        models = engine_models(avatar.profile.version, vae=vae, batch_size=batch_size)
        total = 2 * len(samples)
        progress = Progress(models.vae)  # type: ignore[arg-type]
        scaled = samples.float() * SCALING_FACTOR
        faces = decode_faces(models, scaled, batch_size, progress=lambda done, _: progress(done, total))
        shown = empty_image(*faces.shape)
        fill(shown, 0, faces)
        frames = _paste(avatar, faces, loop, lambda done: progress(len(faces) + done, total))
        return io.NodeOutput(frames, shown, _masks(avatar, len(faces), loop))


class PasteBack(io.ComfyNode):
    """Faces of any size to whole frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkPasteBack",
            display_name="Paste Back Faces",
            category=_CATEGORY,
            description="Blends faces, restored or upscaled to any size, into the footage.",
            search_aliases=["musetalk", "lip sync", "composite", "face restore"],
            inputs=[
                avatar_input(),
                io.Image.Input(
                    "faces", tooltip="One face per output frame, in order, at any size: a restorer may return 512x512."
                ),
                loop_input(),
            ],
            outputs=[io.Image.Output("frames", display_name="frames")],
        )

    @classmethod
    def execute(cls, avatar: Any, faces: torch.Tensor, loop: str) -> io.NodeOutput:
        pixels = to_uint8(faces)
        progress = Progress()
        return io.NodeOutput(_paste(avatar, pixels, loop, lambda done: progress(done, len(pixels))))


def _paste(avatar: Any, faces: np.ndarray, loop: str, report: Any) -> torch.Tensor:
    width, height = avatar.frames.size
    frames = empty_image(len(faces), height, width, 3)
    done = 0
    for chunk in paste_back(avatar, faces, loop=loop):
        fill(frames, done, chunk)
        done += len(chunk)
        report(done)
    return frames


def _masks(avatar: Any, count: int, loop: str) -> torch.Tensor:
    size = avatar.frames.size
    masks = empty_image(count, size[1], size[0])
    for index in range(count):
        source = source_index(index, len(avatar.frames), loop)
        fill(masks, index, full_mask(avatar.mask_of(source), size)[None])
    return masks
