"""Synthetic clips as folders of files, as many as wanted: ``musetalk synthesize``."""

from __future__ import annotations

import json
import secrets
import shutil
import wave
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ...audio.source import AudioSource
from ...audio.waveform import SAMPLE_RATE
from ...errors import InputError, OutputError
from ...profile import Profile
from ...video.writer import VideoWriter
from .clips import Clip, make_clip
from .drawn import draw_face
from .photos import PHOTOS, photo_still, vary
from .scene import Scene
from .scripts import narration
from .take import Take
from .truth_file import BOXES_FILE, SOUND_FILE, SOURCE_FILE, TALKING_FILE, TruthFile, write_truth
from .warp import Rendered

Faces = Literal["photographs", "varied", "drawn", "all"]
FACES: tuple[Faces, ...] = ("photographs", "varied", "drawn", "all")
FPS = 25
_KINDS = FACES[:3]
_SETTINGS_FILE = "clips.json"
_FORMAT, _VERSION = "musetalk-clips", 1
_SECONDS = (1.0, 600.0)
_BATCH = 16
# First words of the seeds (stream, seed, index), apart from those of training, which are small. Faces have a stream of
# their own, since espeak-ng's jitter changes how much a narration draws.
_FACE_STREAM, _SPEECH_STREAM = 0x66616365, 0x73706565
_MOST_SEED = 2**32 - 1

Progress = Callable[[str, int, int], None]
"""``progress("clips", done, total)``."""


@dataclass(frozen=True)
class ClipOptions:
    """What clips are like; one folder has one.

    seconds: of each, 1 to 600. seed: 0 to 2**32 - 1. faces: whose; ``all`` takes the kinds in turn. held_out: voices
    and sentences of `scripts`' test part, which a training neither hears nor is validated with. as_found: the source
    to lip-sync has the mouth of its picture instead of one at rest.
    """

    seconds: float = 6.0
    seed: int = 0
    faces: Faces = "all"
    held_out: bool = False
    as_found: bool = False

    def __post_init__(self) -> None:
        if not _SECONDS[0] <= self.seconds <= _SECONDS[1]:
            raise InputError(f"clips of {self.seconds:g} s were asked for; choose {_SECONDS[0]:g} to {_SECONDS[1]:g} s")
        if not 0 <= self.seed <= _MOST_SEED:
            raise InputError(f"seed {self.seed} is out of range; choose 0 to {_MOST_SEED}")
        if self.faces not in FACES:
            raise InputError(f"there are no faces {self.faces!r}; choose one of {', '.join(FACES)}")


def write_clips(
    folder: Path, count: int, options: ClipOptions | None = None, progress: Progress | None = None
) -> list[Path]:
    """Fill a folder up to ``count`` clips ``clip-0000`` ..., each a folder that is complete or absent.

    What is there of the same options is kept, so an interrupted run is continued and a set enlarged by asking again.
    Face, take, voice and the order of the sentences in clip i follow from seed and i. The voice's sound differs by a
    hair each time, and with it how much of the last sentence is heard.
    Returns the folders of the clips made by this call.

    Raises InputError for options that differ from those of the folder, OutputError where it cannot be written.
    """
    options = options or ClipOptions()
    if count < 1:
        raise InputError(f"{count} clips were asked for; ask for 1 or more")
    _claim(folder, options)
    made = []
    try:
        for left in folder.glob(".clip-*.part"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        for index in range(count):
            target = folder / f"clip-{index:04d}"
            if not target.is_dir():
                _write_whole(target, index, options)
                made.append(target)
            if progress is not None:
                progress("clips", index + 1, count)
    except OSError as error:
        raise OutputError(
            f"cannot write clips in {folder} ({error.strerror or error}); what is there is whole"
        ) from error
    return made


def cast(index: int, options: ClipOptions) -> tuple[Clip, TruthFile]:
    """Clip ``index`` of a set, and the truth about it. Raises MuseTalkError where espeak-ng is not installed."""
    rng = np.random.default_rng((_FACE_STREAM, options.seed, index))
    kind = _KINDS[index % len(_KINDS)] if options.faces == "all" else options.faces
    turn = index // len(_KINDS) if options.faces == "all" else index
    photo = PHOTOS[turn % len(PHOTOS)]
    said = narration(
        options.seconds,
        np.random.default_rng((_SPEECH_STREAM, options.seed, index)),
        "test" if options.held_out else "training",
    )
    if kind == "photographs":
        clip = make_clip(photo, said.speech, fps=FPS)
    else:
        still = vary(photo_still(photo), rng) if kind == "varied" else draw_face(rng)
        clip = make_clip(still, said.speech, Take.random(rng), FPS)
    height, width = clip.scene.picture.shape[:2]
    face = photo if kind == "photographs" else kind
    about = {"face": face, "held_out": options.held_out, "seed": options.seed, "clip": index}
    voice = f"{said.voice.name} rate={said.voice.rate} pitch={said.voice.pitch} range={said.voice.range}"
    return clip, TruthFile(
        clip.truth(), clip.fps, (width, height), clip.scene.box, clip.still, clip.take, voice, said.lines, about
    )


def _claim(folder: Path, options: ClipOptions) -> None:
    """Make the folder one for clips of these options, or find that it is."""
    settings = {"format": _FORMAT, "version": _VERSION, **asdict(options)}
    path = folder / _SETTINGS_FILE
    try:
        if path.is_file():
            if json.loads(path.read_text("utf-8")) != settings:
                raise InputError(f"{folder} holds clips of other options ({path.name}); choose another folder")
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists and holds something else; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
        part.replace(path)
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); choose another folder") from error
    except OSError as error:
        raise OutputError(f"cannot write in {folder} ({error.strerror or error}); choose another folder") from error


def _write_whole(target: Path, index: int, options: ClipOptions) -> None:
    clip, known = cast(index, options)
    part = target.with_name(f".{target.name}-{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        write_sound(part / SOUND_FILE, clip.speech.samples)
        sound = AudioSource.from_array(clip.speech.samples, SAMPLE_RATE)
        write_video(part / TALKING_FILE, clip, clip.talking(), sound)
        write_video(part / SOURCE_FILE, clip, clip.resting(as_found=options.as_found))
        write_truth(part, known)
        (part / BOXES_FILE).write_text(json.dumps([_found_box(clip.scene)]) + "\n", "utf-8")
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _found_box(scene: Scene) -> list[int]:
    """The box as it is before the engine adds its margin."""
    x0, y0, x1, y1 = scene.box
    return [x0, y0, x1, y1 - Profile().extra_margin]


def write_video(path: Path, clip: Clip, frames: Iterator[Rendered], sound: AudioSource | None = None) -> None:
    """Face crops of a clip, in its picture, as a video file. Raises OSError."""
    height, width = clip.scene.picture.shape[:2]
    with VideoWriter(path, width, height, clip.fps, audio=sound) as writer:
        while batch := [clip.scene.with_face(frame.image) for frame in islice(frames, _BATCH)]:
            writer.write(np.stack(batch))


def write_sound(path: Path, samples: np.ndarray) -> None:
    """float32 mono samples at 16 kHz as a 16-bit WAV file. Raises OSError."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
