"""Lip Sync Video."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import InputImpl, io

from ..musetalk.avatar import Avatar
from ..musetalk.errors import InputError
from ..musetalk.pipeline import lipsync
from ..musetalk.report import LipSyncReport
from .faces import given_faces
from .host.folders import scratch_file
from .host.media import open_frames
from .host.networks import FaceModels, ManagedModel, MuseTalkModel
from .host.progress import Progress
from .host.running import engine_models, landmark_source
from .pictures import to_mattes, to_uint8
from .schema import Avatar as AvatarSocket
from .schema import (
    advanced,
    audio_encoder_input,
    batch_size_input,
    boxes_input,
    face_models_input,
    landmarks_input,
    loop_input,
    make_schema,
    mask_input,
    model_input,
    occluder_input,
    pose_keypoints_input,
    reference_input,
    vae_input,
)
from .settings import read_settings
from .settings_schema import added_inputs, settings_inputs
from .voices import check_map, read_voices

_SPEAKERS = 4
_EXAMPLE_MAP = """segments:
- {person: 0, start: 0, end: 2.5}
- {person: 1, start: 2.5, end: 6}"""


class LipSyncVideo(io.ComfyNode):
    """The whole job, file to file, in memory that does not grow with the length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkLipSyncVideo",
            display_name="Lip Sync Video",
            category="MuseTalk",
            description="Redraws the mouth in a video so that it speaks the sound. Any length in constant memory; one "
            "encode, which Save Video copies as it is.",
            search_aliases=["musetalk", "lipsync", "talking head", "dubbing", "wav2lip"],
            inputs=[
                io.MultiType.Input(
                    "video",
                    [io.Video, io.Image, AvatarSocket],
                    tooltip="The footage: a video, pictures, or a prepared avatar. An avatar has its settings behind "
                    "it: the face and mask settings here are then not used.",
                ),
                model_input(),
                vae_input(),
                audio_encoder_input(),
                face_models_input(),
                loop_input(),
                *settings_inputs(),
                batch_size_input(),
                advanced(
                    io.Int.Input(
                        "crf",
                        default=18,
                        min=0,
                        max=51,
                        tooltip="Quality of the H.264 encode, default 18 (visually lossless). Lower is larger.",
                    )
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The speech. Not connected: the footage's own sound, where it has one.",
                ),
                landmarks_input(),
                boxes_input(),
                mask_input(),
                pose_keypoints_input(),
                occluder_input(),
                reference_input(),
                *map(_speaker_input, range(_SPEAKERS)),
                *added_inputs(),
                advanced(
                    io.String.Input(
                        "speaker_map",
                        optional=True,
                        multiline=True,
                        default="",
                        placeholder=_EXAMPLE_MAP,
                        tooltip="For a dialogue in the audio input: who speaks when, as YAML. Segments, each with "
                        "person, start and end in seconds. Empty: the audio is one person's.",
                    )
                ),
            ],
            outputs=[
                io.Video.Output("video_out", display_name="video"),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Length, size, frames left as filmed and why, useful bbox_shift.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, speaker_map: str = "") -> bool | str:
        return check_map(speaker_map) or True

    @classmethod
    def execute(
        cls,
        video: Any,
        model: MuseTalkModel,
        vae: Any,
        audio_encoder: ManagedModel,
        face_models: FaceModels,
        loop: str,
        batch_size: int,
        crf: int,
        audio: Any = None,
        landmarks: Any = None,
        boxes: Any = None,
        mask: torch.Tensor | None = None,
        pose_keypoints: Any = None,
        occluder: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        speaker_map: str = "",
        **values: Any,
    ) -> io.NodeOutput:
        options: dict[str, Any] = {}
        faces = {"landmarks": landmarks, "boxes": boxes, "pose_keypoints": pose_keypoints}
        sound, speakers = read_voices(
            video, audio, [values.get(f"speaker_{index}") for index in range(_SPEAKERS)], speaker_map
        )
        if isinstance(video, Avatar):
            _refuse_preparation(**faces, mask=mask, occluder=occluder, reference=reference, speakers=speakers)
        else:
            settings = read_settings(values, model.version, None if reference is None else to_uint8(reference))
            video = open_frames(video, settings.fps, parity=settings.profile.parity)
            options = {
                "profile": settings.profile,
                "select": settings.select,
                "landmarks": given_faces(video.size, **faces) or landmark_source(face_models),
                "mask": to_mattes(mask, "mask"),
                "occluder": to_mattes(occluder, "occluder"),
                "speakers": speakers,
            }
        models = engine_models(
            model.version,
            model=model,
            vae=vae,
            audio_encoder=audio_encoder,
            face_models=face_models,
            batch_size=batch_size,
            gated=video.size if options and options["profile"].parity else None,
        )
        report = lipsync(
            models,
            video,
            sound,
            scratch_file(".mp4"),
            loop=loop,
            batch_size=batch_size,
            crf=crf,
            progress=Progress(models.vae).stage,  # type: ignore[arg-type]
            **options,
        )
        return io.NodeOutput(InputImpl.VideoFromFile(str(report.output)), describe(report))


def _speaker_input(index: int) -> Any:
    return io.Audio.Input(
        f"speaker_{index}",
        optional=True,
        tooltip=f"What person {index} says, instead of audio. People are numbered as Find Faces shows them: by first "
        "appearance, left to right. One without a voice stays as filmed.",
    )


def _refuse_preparation(**given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(
            f"{', '.join(named)}: these belong to Prepare Avatar, and this avatar is prepared; disconnect them"
        )


def describe(report: LipSyncReport) -> str:
    """A finished job in words."""
    head = f"{report.frames} frames of {report.width}x{report.height} at {float(report.fps):g} fps"
    return "\n".join([head, *report.lines()])
