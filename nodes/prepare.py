"""Prepare Avatar."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..musetalk.avatar import prepare_avatar
from ..musetalk.face.boxes import shift_range
from ..musetalk.face.track import FaceTrack
from ..musetalk.report import SpeakerReport
from .face_boxes import face_box_reports
from .faces import given_faces
from .host.media import empty_image, open_frames
from .host.networks import FaceModels
from .host.progress import Progress
from .host.running import engine_models, landmark_source
from .pictures import draw_boxes, fill, to_mattes, to_uint8
from .schema import (
    VERSIONS,
    Avatar,
    advanced,
    boxes_input,
    face_models_input,
    landmarks_input,
    make_schema,
    mask_input,
    occluder_input,
    pose_keypoints_input,
    reference_input,
    vae_input,
)
from .settings import AUTO, read_settings
from .settings_schema import added_inputs, settings_inputs

_PREVIEWS = 8
_PREVIEW_SIDE = 1024
# Faces are encoded in batches of this size by the engine.
_BATCH = 8


class PrepareAvatar(io.ComfyNode):
    """Footage to everything about it that does not depend on the sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkPrepareAvatar",
            display_name="Prepare Avatar",
            category="MuseTalk/avatar",
            description="Finds the face in every frame, encodes it and makes its paste mask: once per video, for any "
            "number of sounds.",
            search_aliases=["musetalk", "lip sync", "face detection", "talking head"],
            # Face boxes reach the page also when nothing had to run again.
            has_intermediate_output=True,
            inputs=[
                io.MultiType.Input(
                    "frames",
                    [io.Image, io.Video],
                    tooltip="The footage: a video, which is read from its file as needed, or pictures in memory. One "
                    "picture is a still.",
                ),
                vae_input(),
                face_models_input(),
                *settings_inputs(),
                advanced(
                    io.Combo.Input(
                        "version",
                        options=list(VERSIONS),
                        default=AUTO,
                        tooltip="Model version the avatar is for; auto is that of the loaded models.",
                    )
                ),
                landmarks_input(),
                boxes_input(),
                mask_input(),
                pose_keypoints_input(),
                occluder_input(),
                reference_input(),
                *added_inputs(),
            ],
            outputs=[
                Avatar.Output("avatar", display_name="avatar"),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="Up to 8 frames with the part that is redrawn."
                ),
                io.String.Output(
                    "shift_range",
                    display_name="shift_range",
                    tooltip="The useful range of bbox_shift for this face, how steady it is, and which frames stay as "
                    "filmed.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Any,
        vae: Any,
        face_models: FaceModels,
        version: str,
        landmarks: Any = None,
        boxes: Any = None,
        mask: torch.Tensor | None = None,
        pose_keypoints: Any = None,
        occluder: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        **values: Any,
    ) -> io.NodeOutput:
        actual = face_models.version if version == AUTO else version
        person = None if reference is None else to_uint8(reference)
        settings = read_settings(values, actual, person)  # type: ignore[arg-type]
        profile = settings.profile
        source = open_frames(frames, settings.fps, parity=profile.parity)
        given = given_faces(source.size, landmarks=landmarks, boxes=boxes, pose_keypoints=pose_keypoints)
        models = engine_models(
            profile.version,
            vae=vae,
            face_models=face_models,
            batch_size=_BATCH,
            gated=source.size if profile.parity else None,
        )
        avatar = prepare_avatar(
            models,
            source,
            profile=profile,
            landmarks=given or landmark_source(face_models),
            select=settings.select,
            mask=to_mattes(mask, "mask"),
            occluder=to_mattes(occluder, "occluder"),
            progress=Progress(),
        )
        pictures = draw_boxes(avatar, _PREVIEWS, _PREVIEW_SIDE)
        preview = empty_image(*pictures.shape)
        fill(preview, 0, pictures)
        reports = face_box_reports(avatar, _PREVIEWS, _PREVIEW_SIDE)
        return io.NodeOutput(avatar, preview, describe_face(avatar.track), ui={"musetalk_boxes": reports})


def describe_face(track: FaceTrack) -> str:
    """What the footage shows of the face, and the useful range of ``bbox_shift``, in words."""
    lines = SpeakerReport.of(track).lines()
    return "\n".join(lines if shift_range(track) is not None else [*lines, describe_range(track)])


def describe_range(track: FaceTrack) -> str:
    """The useful range of ``bbox_shift`` in words."""
    useful = shift_range(track)
    return "the useful range of bbox_shift is not known for given boxes" if useful is None else str(useful)
