"""The whole job: footage and sound in, finished video out, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .audio.features import exact_fps
from .audio.windows import AudioWindows
from .avatar import Avatar, check_avatar
from .errors import InputError
from .face.mask_maker import check_mask_source
from .face.mattes import open_mattes
from .face.selection import PersonSelect
from .face.sources import LandmarkSource
from .face.track import FaceTrack
from .faces import FaceSearch, Found
from .playback import check_loop, output_length
from .preparation import Preparer, SpooledMaterial
from .profile import Profile
from .render import MaterialSource, Voice, render
from .report import LipSyncReport, SpeakerReport
from .schedule import Schedule
from .soundtrack import Sounds
from .speakers import Speaker, check_speakers
from .video.frames import FrameSource
from .video.writer import VideoWriter

if TYPE_CHECKING:
    from .models import Models

StageProgress = Callable[[str, int, int], None]
"""``progress(stage, done, total)`` with stage ``audio``, ``faces`` or ``frames``; a total of 0 is not known yet."""


def lipsync(
    models: Models,
    video: Any,
    audio: Any,
    output: str | Path,
    *,
    profile: Profile | None = None,
    boxes: Any = None,
    landmarks: LandmarkSource | None = None,
    select: PersonSelect = "largest",
    speakers: Sequence[Speaker] | None = None,
    mask: Any = None,
    occluder: Any = None,
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
    boxes, landmarks, select, mask, occluder: see :func:`prepare_avatar`. An Avatar brings its own.
    speakers: several people of the footage, each with a sound of their own, instead of ``audio`` and ``select``. The
        sound of the result is all of them together; frames in which a person does not speak keep that person as filmed.
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
    parts = _parts(audio, select, speakers)
    report = progress or _ignore
    with ExitStack() as stack:
        if isinstance(video, Avatar):
            _refuse_preparation(
                profile=profile,
                boxes=boxes,
                landmarks=landmarks,
                select=None if isinstance(select, str) and select == "largest" else select,
                speakers=speakers,
                mask=mask,
                occluder=occluder,
                fps=fps,
            )
            check_avatar(models, video)
            frames, profile = video.frames, video.profile
        else:
            profile = profile or Profile.for_version(models.version)
            frames = _open_frames(stack, video, fps, profile.parity)
            check_mask_source(profile, parser=models.face_parser is not None, mask=mask is not None)
        given = [path for path in (mask, occluder) if isinstance(path, (str, Path))]
        mask, occluder = (open_mattes(stack, mattes, frames) for mattes in (mask, occluder))
        search = FaceSearch(frames, profile, boxes, landmarks, occluder=occluder)
        sounds = Sounds([part.audio for part in parts], frames)
        _refuse_own_input(output, frames.path, *(source.path for source in sounds.sources), *given)
        started = time.perf_counter()
        windows = sounds.windows(stack, models, frames, profile.parity, lambda: report("audio", 0, 0))
        _refuse_silent_spans(parts, windows, frames.fps)
        heard = max(map(len, windows))
        length = output_length(heard, len(frames), loop, frames.is_still)
        audio_read = time.perf_counter()
        if isinstance(video, Avatar):
            cast: list[_Role] = [_Role(None, video.track, video)]
        else:
            search = replace(search, count=min(length, len(frames)))
            found = _find(search, parts, speakers is not None, lambda done, total: report("faces", done, total))
            keep = length > len(frames)
            cast = []
            for face in found:
                preparer = Preparer(models, face.track, profile, frames.size, mask=mask, occluder=face.occluder)
                material = stack.enter_context(SpooledMaterial(preparer, keep=keep))
                cast.append(_Role(face.person, face.track, material))
        fade = 0.0 if profile.parity else profile.fade
        schedules = _schedules(parts, cast, windows, frames.fps, length, fade)
        voices = [
            Voice(role.track, role.material, sound, schedule)
            for role, sound, schedule in zip(cast, windows, schedules, strict=True)
        ]
        faces_found = time.perf_counter()
        writer = stack.enter_context(
            VideoWriter(
                output,
                frames.width,
                frames.height,
                frames.fps,
                audio=sounds.mixed,
                audio_duration=length / frames.fps if length < heard else None,
                color=frames.color,
                codec=codec,
                crf=crf,
                preset=preset,
                overwrite=overwrite,
            )
        )
        seconds = render(
            models,
            frames,
            voices,
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
        speakers=tuple(SpeakerReport.of(role.track, role.person) for role in cast),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
    )


@dataclass(frozen=True)
class _Role:
    """One speaker, found: index among the people of the clip (None where one face was followed), track, material."""

    person: int | None
    track: FaceTrack
    material: MaterialSource


def _parts(audio: Any, select: PersonSelect, speakers: Sequence[Speaker] | None) -> Sequence[Speaker]:
    if speakers is None:
        return [Speaker(select, audio)]
    if audio is not None or not (isinstance(select, str) and select == "largest"):
        raise InputError("speakers say who speaks what; leave out audio and select beside them")
    check_speakers(speakers)
    return speakers


def _find(
    search: FaceSearch, parts: Sequence[Speaker], several: bool, progress: Callable[[int, int], None]
) -> Sequence[Found]:
    if not several:
        return [search.one(parts[0].person, progress)]
    found = search.several([part.person for part in parts], progress)
    # Different words may mean one person.
    persons = [part.person if face.person is None else face.person for part, face in zip(parts, found, strict=True)]
    check_speakers([replace(part, person=person) for part, person in zip(parts, persons, strict=True)])
    return found


def _schedules(
    parts: Sequence[Speaker],
    cast: Sequence[_Role],
    windows: Sequence[AudioWindows],
    fps: Fraction,
    length: int,
    fade: float,
) -> list[Schedule]:
    """When each speaker speaks; where one person goes on with another sound, there is no fade between."""
    schedules = []
    for i, (part, role, sound) in enumerate(zip(parts, cast, windows, strict=True)):
        same = [
            j for j, other in enumerate(cast) if j != i and other.person is not None and other.person == role.person
        ]
        beside = [span for j in same for span in parts[j].spans or ()]
        schedules.append(Schedule(part.spans, fps, heard=len(sound), length=length, fade=fade, beside=beside))
    return schedules


def _open_frames(stack: ExitStack, video: Any, fps: Fraction | float | None, parity: bool) -> FrameSource:
    if isinstance(video, FrameSource):
        if fps is not None and exact_fps(fps) != video.fps:
            raise InputError(f"fps is {fps} but the FrameSource runs at {video.fps}; open it with fps=... instead")
        return video
    return stack.enter_context(FrameSource.open(video, None if fps is None else exact_fps(fps), parity=parity))


def _refuse_preparation(**given: Any) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise InputError(
            f"{', '.join(named)} belong to the preparation, which this avatar has behind it; leave them out"
        )


def _refuse_own_input(output: Path, *inputs: str | Path | None) -> None:
    for path in inputs:
        if path is not None and output.exists() and output.samefile(path):
            raise InputError(f"the output {output} is also an input; choose another name")


def _refuse_silent_spans(parts: Sequence[Speaker], windows: Sequence[AudioWindows], fps: Fraction) -> None:
    for part, sound in zip(parts, windows, strict=True):
        for start, end in part.spans or ():
            if round(start * fps) >= len(sound):
                raise InputError(
                    f"a person is to speak from {float(start):g} to {float(end):g} s, but the sound ends at "
                    f"{float(len(sound) / fps):g} s; shorten the segment, or use another sound"
                )


def _ignore(stage: str, done: int, total: int) -> None:
    """Progress of a caller who did not ask for any."""
