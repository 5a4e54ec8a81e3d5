"""Latent Inpaint UNet."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musetalk.errors import AvatarError, InputError
from ..musetalk.inpainting import inpaint
from ..musetalk.latents import SCALING_FACTOR
from ..musetalk.playback import output_length
from .audio import Windows
from .host.networks import MuseTalkModel
from .host.progress import Progress
from .host.running import engine_models
from .schema import AudioFeatures, avatar_input, batch_size_input, loop_input, make_schema, model_input

LOOP_KEY = "musetalk_loop"
"""In a LATENT: which way the footage goes on, for the node that pastes back."""


class Inpaint(io.ComfyNode):
    """Footage latents and audio windows to the latents of the talking face, in one pass per frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkInpaint",
            display_name="Latent Inpaint UNet",
            category="MuseTalk/sampling",
            description="Redraws the lower face in latent space to fit the sound: one UNet pass per frame.",
            search_aliases=["musetalk", "lip sync", "sampler", "unet"],
            inputs=[
                model_input(),
                avatar_input(),
                AudioFeatures.Input("audio_features", tooltip="The sound, from Whisper Audio Features."),
                loop_input(),
                batch_size_input(),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="One 32x32 latent per frame; a Stable Diffusion 1 VAE decodes it to the 256x256 face.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, model: MuseTalkModel, avatar: Any, audio_features: Windows, loop: str, batch_size: int
    ) -> io.NodeOutput:
        check_match(model, avatar, audio_features)
        frames = avatar.frames
        length = output_length(len(audio_features.features), len(frames), loop, frames.is_still)
        models = engine_models(model.version, model=model, batch_size=batch_size)
        features = audio_features.features[:length]
        predicted = inpaint(models, avatar, features, batch_size, loop=loop, progress=Progress())
        return io.NodeOutput({"samples": predicted / SCALING_FACTOR, LOOP_KEY: loop})


def check_match(model: MuseTalkModel, avatar: Any, windows: Windows) -> None:
    """Refuse an avatar of another model version, and a sound cut for another frame rate."""
    if avatar.profile.version != model.version:
        raise AvatarError(
            f"the avatar was prepared for MuseTalk {avatar.profile.version}, the model is {model.version}; prepare it "
            f"again, or choose version {avatar.profile.version} in Load MuseTalk Models"
        )
    if windows.fps != avatar.frames.fps:
        raise InputError(
            f"the audio features are for {float(windows.fps):g} fps, the footage has {float(avatar.frames.fps):g}; "
            "connect the avatar to Whisper Audio Features"
        )
