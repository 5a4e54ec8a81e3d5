"""The whole job: footage and sound in, finished video out, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .audio.features import exact_fps, open_windows
from .audio.source import AudioSource
from .avatar import Avatar, check_avatar, find_faces
from .errors import InputError
from .face.boxes import ShiftRange, shift_range
from .face.sources import LandmarkSource
from .playback import check_loop, output_length
from .preparation import Preparer, SpooledMaterial
from .profile import Profile
from .render import Footage, render
from .video.frames import FrameSource
from .video.writer import VideoWriter

if TYPE_CHECKING:
    from .models import Models

StageProgress = Callable[[str, int, int], None]
"""``progress(stage, done, total)`` with stage ``audio``, ``faces`` or ``frames``; a total of 0 is not known yet."""


@dataclass(frozen=True)
class LipSyncReport:
    """What a finished job did.

    frames: how many were written, at exactly ``fps``. faceless: spans of source frames, first and last, that passed
    through untouched. shift_range: the usable ``bbox_shift``, None when only boxes are known. seconds: per stage
    (stages overlap).
    """

    output: Path
    frames: int
    fps: Fraction
    width: int
    height: int
    faceless: tuple[tuple[int, int], ...]
    shift_range: ShiftRange | None
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**asdict(self), "output": str(self.output), "fps": str(self.fps)}


def lipsync(
    models: Models,
    video: Any,
    audio: Any,
    output: str | Path,
    *,
    profile: Profile | None = None,
    boxes: Any = None,
    landmarks: LandmarkSource | None = None,
    select: str | tuple[float, float] = "largest",
    fps: Fraction | float | None = None,
    loop: str = "ping-pong",
    batch_size: int = 8,
    codec: str = "libx264",
    crf: int = 18,
    preset: str = "medium",
    overwrite: bool = False,
    progress: StageProgress | None = None,
) -> LipSyncReport:
    """Redraw the mouth in ``video`` so that it speaks ``audio``, and write the result to ``output``.

    video: path of a video, an image or a folder of images; a FrameSource; or a prepared Avatar.
    audio: path of anything with sound, an AudioSource, or None for the video's own sound.
    output: path of the ``.mp4``, ``.mov`` or ``.mkv`` to write (H.264 and AAC); it appears when it is complete.
    profile: settings; default those of the models' version. An Avatar brings its own.
    boxes, landmarks, select: see :func:`prepare_avatar`. An Avatar brings its own.
    fps: show the footage at this constant rate; default is its own (25 for images).
    loop: ``ping-pong``, ``repeat``, ``hold`` or ``cut``, for sound longer than the footage.
    batch_size: frames per UNet pass. codec, crf, preset: of the one encode.
    progress: see ``StageProgress``; an exception it raises stops the job within one batch.

    Raises InputError, NoFaceError, AvatarError or OutputError; nothing half-written is left behind.
    """
    check_loop(loop)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1")
    output = Path(output)
    VideoWriter.check_target(output, overwrite=overwrite)
    report = progress or _ignore
    with ExitStack() as stack:
        avatar = video if isinstance(video, Avatar) else None
        if avatar is not None:
            _refuse_preparation(profile=profile, boxes=boxes, landmarks=landmarks, fps=fps)
            check_avatar(models, avatar)
        profile = avatar.profile if avatar is not None else profile or Profile.for_version(models.version)
        frames = avatar.frames if avatar is not None else _open_frames(stack, video, fps, profile.parity)
        sound = open_sound(audio, frames)
        _refuse_own_input(output, frames, sound)
        started = time.perf_counter()
        windows = open_windows(
            models, sound, frames.fps, parity=profile.parity, check_cancelled=lambda: report("audio", 0, 0)
        )
        stack.callback(windows.close)
        length = output_length(len(windows), len(frames), loop, frames.is_still)
        audio_read = time.perf_counter()
        if avatar is not None:
            footage = Footage(frames, avatar.track, avatar)
        else:
            track = find_faces(
                frames,
                profile,
                boxes=boxes,
                landmarks=landmarks,
                count=min(length, len(frames)),
                select=select,
                progress=lambda done, total: report("faces", done, total),
            )
            preparer = Preparer(models, track, profile, frames.size)
            spool = SpooledMaterial(preparer, keep=length > len(frames))
            footage = Footage(frames, track, stack.enter_context(spool))
        faces_found = time.perf_counter()
        writer = stack.enter_context(
            VideoWriter(
                output,
                frames.width,
                frames.height,
                frames.fps,
                audio=sound,
                audio_duration=length / frames.fps if length < len(windows) else None,
                color=frames.color,
                codec=codec,
                crf=crf,
                preset=preset,
                overwrite=overwrite,
            )
        )
        seconds = render(
            models,
            footage,
            windows,
            length,
            writer.write,
            loop=loop,
            batch_size=batch_size,
            progress=lambda done, total: report("frames", done, total),
        )
    seconds = {"sound": audio_read - started, "faces": faces_found - audio_read, **seconds}
    return LipSyncReport(
        output=output,
        frames=length,
        fps=frames.fps,
        width=frames.width,
        height=frames.height,
        faceless=faceless_spans(footage.track.valid),
        shift_range=shift_range(footage.track),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
    )


def faceless_spans(valid: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Runs of False in bool ``[M]`` as ``(first, last)`` pairs."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], valid, [True]]).astype(np.int8)))
    return tuple((int(first), int(after) - 1) for first, after in edges.reshape(-1, 2))


def _open_frames(stack: ExitStack, video: Any, fps: Fraction | float | None, parity: bool) -> FrameSource:
    if isinstance(video, FrameSource):
        if fps is not None and exact_fps(fps) != video.fps:
            raise InputError(f"fps is {fps} but the FrameSource runs at {video.fps}; open it with fps=... instead")
        return video
    return stack.enter_context(FrameSource.open(video, None if fps is None else exact_fps(fps), parity=parity))


def open_sound(audio: Any, frames: FrameSource) -> AudioSource:
    """The driving sound: an AudioSource as it is, a path opened, None for the footage's own. Raises InputError."""
    if isinstance(audio, AudioSource):
        return audio
    if audio is not None:
        return AudioSource.open(audio)
    if frames.path is None or frames.path.is_dir():
        raise InputError("no sound was given and the footage has none; pass audio=...")
    return AudioSource.open(frames.path)


def _refuse_preparation(**given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(
            f"{', '.join(named)} belong to the preparation, which this avatar has behind it; leave them out"
        )


def _refuse_own_input(output: Path, frames: FrameSource, sound: AudioSource) -> None:
    for source in (frames.path, sound.path):
        if source is not None and output.exists() and output.samefile(source):
            raise InputError(f"the output {output} is also an input; choose another name")


def _ignore(stage: str, done: int, total: int) -> None:
    """Progress of a caller who did not ask for any."""
