"""Socket types and the parts of node schemas that several nodes share."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from ..musetalk.playback import LOOP_MODES
from .settings import AUTO

Model = io.Custom("MUSETALK_MODEL")
AudioEncoder = io.Custom("MUSETALK_AUDIO_ENCODER")
FaceModels = io.Custom("MUSETALK_FACE_MODELS")
Avatar = io.Custom("MUSETALK_AVATAR")
AudioFeatures = io.Custom("MUSETALK_AUDIO")
# Core's and other packs', under the names they give them.
FaceLandmarks = io.Custom("FACE_LANDMARKS")
BoundingBox = io.Custom("BOUNDING_BOX")
PoseKeypoint = io.Custom("POSE_KEYPOINT")

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


def pose_keypoints_input() -> Any:
    return PoseKeypoint.Input(
        "pose_keypoints",
        optional=True,
        tooltip="Faces of a pose estimator that sees 68 face points (DWPose, SDPose), one entry per frame, instead of "
        "the built-in face finder. Connect only one of landmarks, boxes and pose_keypoints.",
    )


def mask_input() -> Any:
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip="Only what is white here may be redrawn: one mask for all frames, or one per frame. With mask_source = "
        "mask it also takes the place of the drawn mask.",
    )


def occluder_input() -> Any:
    return io.Mask.Input(
        "occluder",
        optional=True,
        tooltip="What stands in front of the face, such as hands or a microphone, white: it stays as filmed. One mask "
        "for all frames, or one per frame.",
    )


def reference_input() -> Any:
    return io.Image.Input(
        "reference",
        optional=True,
        tooltip="One picture of the person to redraw, for select = reference: as large and as frontal as there is.",
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
