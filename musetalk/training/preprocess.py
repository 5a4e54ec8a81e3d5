"""One source video to clips, in a folder of its own (spec section 8.1, with faceless spans cut out)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.source import AudioSource
from ..audio.waveform import Waveform, load_waveform
from ..errors import InputError, OutputError
from ..face.sources import LandmarkSource
from ..video.frames import FrameSource
from .clip_file import FPS, SAMPLES_PER_FRAME, pack
from .dataset_index import ClipEntry
from .segments import Span, choose_spans, surroundings
from .shots import Watched, watch

NO_SOUND = "past the end of the sound"
SILENT = "silent"
RECORD = "video.json"
_SLICE_BYTES = 64 << 20
_QUIET = 1e-3  # peak; below it a sound track is there only in name
_KEY_LETTERS = 40


@dataclass(frozen=True)
class Settings:
    """What clips are like; one data set has one.

    min_face: least width in pixels of a clip's first box. longest: frames of a clip. landmarks: name of the source.
    """

    min_face: int = 150
    longest: int = 750
    landmarks: str = "facemesh"


@dataclass(frozen=True)
class VideoRecord:
    """What became of a video.

    content: SHA-256 of the file. frames: at 25 fps. clips: in order, with the bytes of each. dropped: frames by reason.
    """

    name: str
    content: str
    frames: int
    clips: tuple[ClipEntry, ...]
    sizes: tuple[int, ...]
    dropped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> VideoRecord:
        clips = tuple(ClipEntry(**clip) for clip in values["clips"])
        return cls(**{**values, "clips": clips, "sizes": tuple(values["sizes"])})


def prepare_video(
    path: Path,
    name: str,
    content: str,
    folder: Path,
    settings: Settings,
    source: LandmarkSource,
) -> VideoRecord:
    """Write the clips of one video into ``folder``, as ``<key>.<member>`` and a record: the whole folder or none.

    Raises InputError for a video that cannot be used, OutputError when the clips cannot be written.
    """
    part = _part(folder)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        with FrameSource.open(path, fps=FPS) as frames, load_waveform(AudioSource.open(path)) as sound:
            record = _cut_up(frames, sound, name, content, part, settings, source)
        (part / RECORD).write_text(json.dumps(record.to_dict()), "utf-8")
        part.replace(folder)
    except (InputError, OutputError):
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write clips in {folder.parent} ({error.strerror or error}); free some room and run again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def is_prepared(folder: Path) -> bool:
    """Whether :func:`prepare_video` finished a folder."""
    return (folder / RECORD).is_file()


def unfinished(folder: Path) -> bool:
    """Whether it was begun on, and its process died."""
    return _part(folder).is_dir()


def read_record(folder: Path) -> VideoRecord:
    """The record of a folder that :func:`prepare_video` finished."""
    return VideoRecord.of(json.loads((folder / RECORD).read_text("utf-8")))


def _part(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.part")


def _cut_up(
    frames: FrameSource,
    sound: Waveform,
    name: str,
    content: str,
    folder: Path,
    settings: Settings,
    source: LandmarkSource,
) -> VideoRecord:
    seen = watch(frames, source)
    heard = -(-len(sound) // SAMPLES_PER_FRAME)
    faults = [fault or (NO_SOUND if frame >= heard else "") for frame, fault in enumerate(seen.faults)]
    widths = seen.boxes[:, 2] - seen.boxes[:, 0]
    spans, dropped = choose_spans(faults, seen.shots, widths, longest=settings.longest, min_face=settings.min_face)
    clips: list[ClipEntry] = []
    sizes: list[int] = []
    for span in spans:
        samples = _sound_of(sound, span)
        if np.abs(samples).max() < _QUIET:
            dropped[SILENT] += len(span)
            continue
        key = clip_key(name, content, len(clips))
        members = _pack(frames, samples, seen, span, name, content)
        for suffix, data in members.items():
            (folder / f"{key}.{suffix}").write_bytes(data)
        clips.append(ClipEntry(key, name, len(span), int(widths[span.first])))
        sizes.append(sum(map(len, members.values())))
    return VideoRecord(name, content, len(frames), tuple(clips), tuple(sizes), dict(dropped))


def clip_key(name: str, content: str, number: int) -> str:
    """The name of a clip's files: readable, its own for every content, and without dots, which end a key in a tar."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem)[:_KEY_LETTERS]
    return f"{stem}-{content[:12]}-{number:03d}"


def _pack(
    frames: FrameSource, samples: np.ndarray, seen: Watched, span: Span, name: str, content: str
) -> dict[str, bytes]:
    rows = slice(span.first, span.stop)
    x0, y0, x1, y1 = surroundings(seen.boxes[rows], frames.size)
    size = [x1 - x0, y1 - y0]
    step = max(1, _SLICE_BYTES // (frames.width * frames.height * 3))

    def pictures() -> Iterator[np.ndarray]:
        for first in range(span.first, span.stop, step):
            yield frames[first : min(first + step, span.stop)][:, y0:y1, x0:x1]

    return pack(
        pictures(),
        samples,
        seen.landmarks[rows] - np.array((x0, y0), np.float32),
        (seen.boxes[rows] - (x0, y0, x0, y0)).clip(0, [*size, *size]),
        seen.scores[rows],
        {
            "source": name,
            "content": content,
            "start": span.first,
            "frames": len(span),
            "size": size,
            "crop": [x0, y0, x1, y1],
            "person": 0,
        },
    )


def _sound_of(sound: Waveform, span: Span) -> np.ndarray:
    """The sound of a span, silence after its end: float32 ``[640 * n]``."""
    samples = sound.read(span.first * SAMPLES_PER_FRAME, span.stop * SAMPLES_PER_FRAME)
    return np.pad(samples, (0, len(span) * SAMPLES_PER_FRAME - len(samples)))
