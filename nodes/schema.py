"""Socket types and the parts of node schemas that several nodes share."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from ..musetalk.playback import LOOP_MODES
from ..musetalk.profile import MAX_SEED, PARSING_MODES, VAE_SAMPLING
from .settings import AUTO, VERSIONS_OWN

Model = io.Custom("MUSETALK_MODEL")
AudioEncoder = io.Custom("MUSETALK_AUDIO_ENCODER")
FaceModels = io.Custom("MUSETALK_FACE_MODELS")
Avatar = io.Custom("MUSETALK_AVATAR")
AudioFeatures = io.Custom("MUSETALK_AUDIO")
# Core's, under the names it gives them where it has them.
FaceLandmarks = io.Custom("FACE_LANDMARKS")
BoundingBox = io.Custom("BOUNDING_BOX")

VERSIONS = (AUTO, "v15", "v1")


def make_schema(**values: Any) -> io.Schema:
    """A schema, without the fields this release of ComfyUI does not have yet."""
    known = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in values.items() if name in known})


def advanced(widget: Any) -> Any:
    """The input, shown only when the user asks for advanced ones; releases that cannot hide it show it."""
    widget.extra_dict = {**widget.extra_dict, "advanced": True}
    return widget


def model_input() -> Any:
    return Model.Input("model", tooltip="The MuseTalk UNet, from Load MuseTalk Models.")


def vae_input() -> Any:
    return io.Vae.Input(
        "vae",
        tooltip="The VAE of Load MuseTalk Models (sd-vae-ft-mse), or another Stable Diffusion 1 VAE: the same one from "
        "Prepare Avatar to VAE Decode and Paste Back.",
    )


def audio_encoder_input() -> Any:
    return AudioEncoder.Input("audio_encoder", tooltip="The Whisper encoder, from Load MuseTalk Models.")


def face_models_input() -> Any:
    return FaceModels.Input(
        "face_models", tooltip="The face finder and, if its file is there, the face parser, from Load MuseTalk Models."
    )


def avatar_input(optional: bool = False, tooltip: str = "The prepared footage, from Prepare or Load Avatar.") -> Any:
    return Avatar.Input("avatar", optional=optional, tooltip=tooltip)


def landmarks_input() -> Any:
    return FaceLandmarks.Input(
        "landmarks",
        optional=True,
        tooltip="Faces found by another node (478-point mesh, or 68 points), one list per frame, instead of the "
        "built-in face finder.",
    )


def boxes_input() -> Any:
    return BoundingBox.Input(
        "boxes",
        optional=True,
        tooltip="The part of each frame to redraw, used as it is: nose bridge at half its height, chin at its lower "
        "edge. One box for all frames, or one list per frame; a frame without a box stays as it is.",
        # Newer browsers would make a box editor of it, whose default box would then be sent with every prompt.
        extra_dict={"forceInput": True},
    )


def loop_input() -> Any:
    return io.Combo.Input(
        "loop",
        options=list(LOOP_MODES),
        default="ping-pong",
        tooltip="When the sound is longer than the footage: play it forward and backward, repeat it, hold its last "
        "frame, or cut the sound. Default ping-pong, which never jumps.",
    )


def batch_size_input() -> Any:
    return advanced(
        io.Int.Input(
            "batch_size",
            default=8,
            min=1,
            max=64,
            tooltip="Frames per pass, default 8. More is faster on a large GPU and takes more memory; when memory runs "
            "out the batch is halved by itself. The result is the same.",
        )
    )


def settings_inputs() -> list[Any]:
    """The block of widgets read by `settings.read_settings`. Their order is part of saved workflows."""
    return [
        io.Int.Input(
            "bbox_shift",
            default=0,
            min=-512,
            max=512,
            tooltip="Pixels the middle of the face box moves down (up if negative), default 0. Down opens the mouth "
            "more, up less; the useful range is reported, often about -9 to 9.",
        ),
        io.Combo.Input(
            "parsing_mode",
            options=[AUTO, *PARSING_MODES],
            default=AUTO,
            tooltip="What may be redrawn: jaw (lower face and chin, v1.5), raw (skin and mouth, v1.0), neck (raw and "
            "the neck; needs the face parser file). auto is the model version's own.",
        ),
        *map(advanced, _mask_inputs()),
        *map(advanced, _select_inputs()),
        *map(advanced, _engine_inputs()),
    ]


def _mask_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "extra_margin",
            default=VERSIONS_OWN,
            min=VERSIONS_OWN,
            max=512,
            tooltip="Pixels added below the chin; -1 is the version's own (v1.5: 10, v1.0: 0). More follows a wide "
            "open mouth, and redraws more of the neck.",
        ),
        io.Int.Input(
            "left_cheek_width",
            default=90,
            min=0,
            max=256,
            tooltip="How far left of the middle the cheek may change, of 256, default 90; jaw mode only. Wider moves "
            "more of the cheek, narrower keeps more of the footage.",
        ),
        io.Int.Input(
            "right_cheek_width",
            default=90,
            min=0,
            max=256,
            tooltip="How far right of the middle the cheek may change, of 256, default 90; jaw mode only.",
        ),
        io.Float.Input(
            "expand",
            default=1.5,
            min=1.0,
            max=4.0,
            step=0.05,
            tooltip="Side of the blending crop over that of the face box, default 1.5. The face parser sees this crop.",
        ),
        io.Float.Input(
            "blur_ratio",
            default=0.05,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Softness of the mask's edge as a part of the crop, default 0.05. Softer hides the seam and lets "
            "the redrawn face fade out earlier.",
        ),
        io.Float.Input(
            "upper_boundary_ratio",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Part of the crop, from the top, that stays as filmed, default 0.5. Less redraws more of the nose.",
        ),
    ]


def _select_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "select",
            options=["largest", "nearest"],
            default="largest",
            tooltip="Which face when there are several: the largest, or the one nearest to select_x, select_y. It is "
            "followed from the first frame that shows it.",
        ),
        io.Int.Input("select_x", default=0, min=0, max=16384, tooltip="Pixels from the left, for select = nearest."),
        io.Int.Input("select_y", default=0, min=0, max=16384, tooltip="Pixels from the top, for select = nearest."),
    ]


def _engine_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "vae_sampling",
            options=list(VAE_SAMPLING),
            default="mode",
            tooltip="How a face becomes latents: mode is exact and repeatable; sample draws noise as upstream does.",
        ),
        io.Int.Input(
            "vae_seed", default=0, min=0, max=MAX_SEED, tooltip="Seed of the noise, for vae_sampling = sample."
        ),
        io.Boolean.Input(
            "parity",
            default=False,
            tooltip="Repeat upstream's behaviour with its quirks, for comparisons. Off is better for everything else.",
        ),
        io.Float.Input(
            "fps",
            default=0.0,
            min=0.0,
            max=240.0,
            step=0.001,
            tooltip="Show the footage at this rate; 0 is a video's own, and 25 for an IMAGE. 29.97 means 30000/1001.",
        ),
    ]
