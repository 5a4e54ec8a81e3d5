"""ComfyUI's pictures, sounds and videos as the engine's, and back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import comfy.model_management as mm
import torch
from comfy_api.latest import Input
from comfy_execution.graph import ExecutionBlocker

from ...musetalk.audio.features import exact_fps
from ...musetalk.audio.source import AudioSource
from ...musetalk.errors import InputError
from ...musetalk.soundtrack import open_sound as open_own_sound
from ...musetalk.video.frames import FrameSource
from ..pictures import to_uint8
from .folders import scratch_file

DEFAULT_FPS = Fraction(25)


def open_frames(frames: Any, fps: float = 0, *, parity: bool = False) -> FrameSource:
    """An IMAGE or a VIDEO as a FrameSource; a video file is read as it is needed.

    fps: show it at this rate; 0 is the video's own, 25 for an IMAGE.
    """
    rate = exact_fps(fps) if fps else None
    if isinstance(frames, torch.Tensor):
        return FrameSource.from_array(to_uint8(frames), rate or DEFAULT_FPS)
    if rate is None and _is_in_memory(frames):
        parts = frames.get_components()
        return FrameSource.from_array(to_uint8(parts.images), exact_fps(float(parts.frame_rate)))
    return FrameSource.open(video_file(frames), rate, parity=parity)


def own_sound(video: Any) -> AudioSource | None:
    """The sound of a VIDEO in memory; None for a silent one and for anything else, whose file the engine reads."""
    if isinstance(video, Input.Video) and _is_in_memory(video):
        audio = video.get_components().audio
        return None if audio is None else open_sound(audio)
    return None


def video_file(video: Any) -> Path:
    """The file behind a VIDEO, or one written to ComfyUI's temp folder where there is none that shows the same."""
    # A video in memory would first be encoded to memory, which 0.3.64 cannot.
    source = None if _is_in_memory(video) else video.get_stream_source()
    if isinstance(source, str) and not _is_cut(video) and _size(source) == tuple(video.get_dimensions()):
        return Path(source)
    path = scratch_file(".mp4")
    video.save_to(str(path))
    return path


def open_sound(audio: Any) -> AudioSource:
    """An AUDIO as an AudioSource. Raises InputError for none and for several at once."""
    if audio is None:
        raise InputError("the audio input carries no sound; connect Load Audio, or a video that has sound")
    waveform = audio["waveform"]
    if len(waveform) != 1:
        raise InputError(f"the audio input holds {len(waveform)} sounds; connect one at a time")
    return AudioSource.from_array(waveform[0], int(audio["sample_rate"]))


def find_sound(audio: Any, video: Any, frames: FrameSource) -> AudioSource | None:
    """An AUDIO, or where none is connected the sound of a VIDEO, shown as ``frames``; None where it is silent."""
    if audio is not None:
        return open_sound(audio)
    try:
        return own_sound(video) or open_own_sound(None, frames)
    except InputError:
        return None


def withheld(reason: str) -> ExecutionBlocker:
    """In the place of a result that is not made: what is connected to it does not run, and shows the reason."""
    return ExecutionBlocker(reason)


def empty_image(*shape: int) -> torch.Tensor:
    """Memory for an IMAGE or a MASK, where and in what precision ComfyUI keeps such results."""
    dtype = mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32
    return torch.empty(shape, dtype=dtype, device=mm.intermediate_device())


def _is_in_memory(video: Any) -> bool:
    """Whether a VIDEO is made of tensors: such classes have no stream of their own."""
    return type(video).get_stream_source is Input.Video.get_stream_source


def _is_cut(video: Any) -> bool:
    window = getattr(video, "get_active_trim_window", None)
    return window is not None and any(window())


def _size(path: str) -> tuple[int, int]:
    """As VIDEO's own get_dimensions tells it: before any rotation."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height
