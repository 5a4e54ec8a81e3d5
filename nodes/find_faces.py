"""Find Faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io

from ..musetalk.face.people import Person
from ..musetalk.face.sheet import people_sheet
from ..musetalk.face.track import FaceTrack
from ..musetalk.faces import FaceSearch
from ..musetalk.profile import Profile
from ..musetalk.report import SpeakerReport
from .faces import given_faces
from .host.media import empty_image, open_frames
from .host.networks import FaceModels
from .host.progress import Progress
from .host.running import engine_models, landmark_source
from .pictures import fill, to_mattes
from .schema import (
    boxes_input,
    face_models_input,
    landmarks_input,
    make_schema,
    occluder_input,
    pose_keypoints_input,
)


class FindFaces(io.ComfyNode):
    """Footage to the people in it, with the numbers that other nodes know them by."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkFindFaces",
            display_name="Find Faces",
            category="MuseTalk/avatar",
            description="Finds everyone in the footage and tells who is who: a portrait and a number for each person.",
            search_aliases=["musetalk", "face detection", "speakers", "who is who"],
            inputs=[
                io.MultiType.Input("frames", [io.Image, io.Video], tooltip="The footage: pictures or a video."),
                face_models_input(),
                landmarks_input(),
                boxes_input(),
                pose_keypoints_input(),
                occluder_input(),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="A portrait of each person, with the number."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="For each person: in how many frames, how many of them can be redrawn and why the others "
                    "cannot, how steady the face is, and the useful bbox_shift.",
                ),
                io.Int.Output("count", display_name="count", tooltip="How many people there are."),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Any,
        face_models: FaceModels,
        landmarks: Any = None,
        boxes: Any = None,
        pose_keypoints: Any = None,
        occluder: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        source = open_frames(frames)
        given = given_faces(source.size, landmarks=landmarks, boxes=boxes, pose_keypoints=pose_keypoints)
        mattes = to_mattes(occluder, "occluder")
        engine_models(face_models.version, face_models=face_models)
        search = FaceSearch(
            source,
            Profile.for_version(face_models.version),
            landmarks=given or landmark_source(face_models),
            occluder=None if mattes is None else mattes.for_clip(len(source), source.size),
        )
        people = search.everyone(Progress())
        picture = people_sheet(people)
        sheet = empty_image(1, *picture.shape)
        fill(sheet, 0, picture[None])
        return io.NodeOutput(sheet, describe(people, [search.track_of(person) for person in people]), len(people))


def describe(people: Sequence[Person], tracks: Sequence[FaceTrack]) -> str:
    """Everyone in words, a paragraph each."""
    paragraphs = []
    for person, track in zip(people, tracks, strict=True):
        seen, usable = len(person.frames), int(track.valid.sum())
        head = f"person {person.index}: seen in {seen} of {len(track)} frames, {usable} can be redrawn"
        paragraphs.append("\n".join([head, *SpeakerReport.of(track, person.index).lines()]))
    return "\n\n".join(paragraphs)
