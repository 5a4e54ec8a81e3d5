"""Prepare Avatar."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..musetalk.avatar import prepare_avatar
from ..musetalk.face.boxes import shift_range
from ..musetalk.face.given import GivenLandmarks
from ..musetalk.face.track import FaceTrack
from .face_boxes import face_box_reports
from .faces import box_rows, landmark_rows
from .host.media import empty_image, open_frames
from .host.networks import FaceModels
from .host.progress import Progress
from .host.running import engine_models
from .pictures import draw_boxes, fill, limit_masks
from .schema import (
    VERSIONS,
    Avatar,
    advanced,
    boxes_input,
    face_models_input,
    landmarks_input,
    make_schema,
    settings_inputs,
    vae_input,
)
from .settings import AUTO, Settings, read_settings

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
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Only what is white here may be redrawn: one mask for all frames, or one per frame.",
                ),
            ],
            outputs=[
                Avatar.Output("avatar", display_name="avatar"),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="Up to 8 frames with the part that is redrawn."
                ),
                io.String.Output(
                    "shift_range", display_name="shift_range", tooltip="The useful range of bbox_shift for this face."
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
        **values: Any,
    ) -> io.NodeOutput:
        actual = face_models.version if version == AUTO else version
        settings = read_settings(values, actual)  # type: ignore[arg-type]
        source = open_frames(frames, settings.fps, parity=settings.profile.parity)
        given = given_faces(settings, source.size, landmarks, boxes)
        models = engine_models(settings.profile.version, vae=vae, face_models=face_models, batch_size=_BATCH)
        avatar = prepare_avatar(
            models, source, profile=settings.profile, select=settings.select, progress=Progress(), **given
        )
        if mask is not None:
            avatar = limit_masks(avatar, mask)
        pictures = draw_boxes(avatar, _PREVIEWS, _PREVIEW_SIDE)
        preview = empty_image(*pictures.shape)
        fill(preview, 0, pictures)
        reports = face_box_reports(avatar, _PREVIEWS, _PREVIEW_SIDE)
        return io.NodeOutput(avatar, preview, describe_range(avatar.track), ui={"musetalk_boxes": reports})


def given_faces(settings: Settings, size: tuple[int, int], landmarks: Any, boxes: Any) -> dict[str, Any]:
    """The engine's ``boxes`` and ``landmarks`` from what other nodes found."""
    given: dict[str, Any] = {}
    if landmarks is not None:
        given["landmarks"] = GivenLandmarks(landmark_rows(landmarks, size, settings.select))
    if boxes is not None:
        given["boxes"] = box_rows(boxes, settings.select)
    return given


def describe_range(track: FaceTrack) -> str:
    """The useful range of ``bbox_shift`` in words."""
    useful = shift_range(track)
    return "the useful range of bbox_shift is not known for given boxes" if useful is None else str(useful)
