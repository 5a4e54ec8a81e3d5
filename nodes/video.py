"""Lip Sync Video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import InputImpl, io

from ..musetalk.avatar import Avatar
from ..musetalk.pipeline import LipSyncReport, lipsync
from .host.folders import scratch_file
from .host.media import open_frames, open_sound, own_sound
from .host.networks import FaceModels, ManagedModel, MuseTalkModel
from .host.progress import Progress
from .host.running import engine_models
from .prepare import given_faces
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
    model_input,
    settings_inputs,
    vae_input,
)
from .settings import read_settings


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
            ],
            outputs=[
                io.Video.Output("video_out", display_name="video"),
                io.String.Output(
                    "report", display_name="report", tooltip="Length, size, frames without a face, useful bbox_shift."
                ),
            ],
        )

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
        **values: Any,
    ) -> io.NodeOutput:
        options: dict[str, Any] = {}
        sound = own_sound(video) if audio is None else open_sound(audio)
        if not isinstance(video, Avatar):
            settings = read_settings(values, model.version)
            video = open_frames(video, settings.fps, parity=settings.profile.parity)
            options = {"profile": settings.profile, "select": settings.select}
            options.update(given_faces(settings, video.size, landmarks, boxes))
        models = engine_models(
            model.version,
            model=model,
            vae=vae,
            audio_encoder=audio_encoder,
            face_models=face_models,
            batch_size=batch_size,
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


def describe(report: LipSyncReport) -> str:
    """A finished job in words."""
    lines = [f"{report.frames} frames of {report.width}x{report.height} at {float(report.fps):g} fps"]
    if report.faceless:
        spans = ", ".join(f"{first}-{last}" for first, last in report.faceless)
        lines.append(f"footage frames without a usable face, left as they are: {spans}")
    if report.shift_range is not None:
        lines.append(str(report.shift_range))
    return "\n".join(lines)
