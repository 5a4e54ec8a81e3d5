"""Measure Sync."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import InputImpl, io

from ..musetalk.audio.source import AudioSource
from ..musetalk.evaluation import Evaluation, evaluate, strip
from ..musetalk.evaluation.figures import figures
from ..musetalk.video.frames import FrameSource
from ..musetalk.video.writer import VideoWriter
from .host.finding import AUTO, NONE, find_syncnet, syncnet_files
from .host.folders import model_files, scratch_file
from .host.media import empty_image, find_sound, open_frames, withheld
from .host.progress import Progress
from .host.running import syncnet_on_device
from .pictures import fill
from .schema import make_schema

_LEAST_STRIP, _STRIP_PART = 72, 8
_NO_SYNCNET = "syncnet is none; choose auto or a file to ask it"
_NO_PICTURES = "Measure Sync gives frames for pictures only, as a video may not fit in memory; take its video output"


class MeasureSync(io.ComfyNode):
    """A talking face and its sound to figures, and to curves drawn under every frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkMeasureSync",
            display_name="Measure Sync",
            category="MuseTalk",
            description="Measures how well the mouth follows the sound and by how much one is late, and draws both as "
            "curves under the picture.",
            search_aliases=["musetalk", "evaluate", "syncnet", "av offset", "lip sync score"],
            inputs=[
                io.MultiType.Input(
                    "frames", [io.Image, io.Video], tooltip="The talking face to measure: pictures or a video."
                ),
                io.Combo.Input(
                    "syncnet",
                    options=[NONE, AUTO, *syncnet_files(model_files())],
                    default=NONE,
                    tooltip="Also ask LatentSync's SyncNet, a network that judges lips and sound (1.5 GB). none needs "
                    "no file; auto takes syncnet/latentsync_syncnet.pt in models/musetalk.",
                ),
                io.Float.Input(
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=240.0,
                    step=0.001,
                    tooltip="The rate of the pictures; 0 is a video's own, and 25 for an IMAGE. 29.97 means "
                    "30000/1001. With another rate than theirs the offset is wrong.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The sound the mouth should follow. Not connected: the video's own.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    "video",
                    display_name="video",
                    tooltip="What came in, with its sound, and under it the mouth (orange) and the sound (blue).",
                ),
                io.Image.Output(
                    "frames_out",
                    display_name="frames",
                    tooltip="The same as pictures, where pictures were connected; for a video take the video output.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="All figures in words, and for what could not be measured the reason.",
                ),
                io.Float.Output(
                    "offset_frames",
                    display_name="offset_frames",
                    tooltip="By how many frames the sound is late; negative when it is early. 0 also when it cannot "
                    "be told: the report says so.",
                ),
                io.Float.Output(
                    "correlation",
                    display_name="correlation",
                    tooltip="How closely the mouth follows the sound as they are, up to 1. 0 also when it cannot be "
                    "measured: the report says so.",
                ),
            ],
        )

    @classmethod
    def execute(cls, frames: Any, syncnet: str, fps: float, audio: Any = None) -> io.NodeOutput:
        file = find_syncnet(syncnet)
        progress = Progress()
        with open_frames(frames, fps) as source:
            sound = find_sound(audio, frames, source)
            with syncnet_on_device(file) as network:
                found = evaluate(source, audio=sound, syncnet=network, progress=progress.stage)
            if file is None:
                found = replace(found, missing={**found.missing, "syncnet": _NO_SYNCNET})
            pictures = None
            if isinstance(frames, torch.Tensor):
                pictures = empty_image(len(source), source.height + strip_height(source.height), source.width, 3)
            path = draw(found, source, sound, pictures, progress)
        sync = found.sync
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(path)),
            withheld(_NO_PICTURES) if pictures is None else pictures,
            describe(found),
            0.0 if sync is None or sync.offset_frames is None else sync.offset_frames,
            0.0 if sync is None else sync.correlation,
        )


def strip_height(frame_height: int) -> int:
    """Of the strip under a frame, even."""
    return max(_LEAST_STRIP, frame_height // (2 * _STRIP_PART) * 2)


def draw(
    found: Evaluation, source: FrameSource, sound: AudioSource | None, pictures: torch.Tensor | None, progress: Progress
) -> Path:
    """Write every frame with its strip to a new video, one at a time, and to ``pictures`` where they are wanted."""
    path, height = scratch_file(".mp4"), strip_height(source.height)
    with VideoWriter(path, source.width, source.height + height, source.fps, audio=sound, color=source.color) as writer:
        for index in range(len(source)):
            picture = np.concatenate([source[index], strip(found, index, source.width, height)])[None]
            writer.write(picture)
            if pictures is not None:
                fill(pictures, index, picture)
            progress(index + 1, len(source))
    return path


def describe(found: Evaluation) -> str:
    """All figures in words, a line each."""
    return "\n".join(f"{row.name}: {row.value or 'not measured'} ({row.meaning})" for row in figures(found))
