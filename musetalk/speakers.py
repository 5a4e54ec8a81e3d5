"""Several people in one clip: who speaks which sound, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError
from .face.selection import WORDS, PersonSelect
from .schedule import Span

_KEYS = {"person", "start", "end", "audio"}


@dataclass(frozen=True)
class Speaker:
    """One person's part.

    person: who, as ``select_person`` takes it. audio: path or AudioSource; its time 0 is that of the output.
    spans: start and end in seconds of what the person says of it; None is all of it.
    """

    person: PersonSelect
    audio: Any
    spans: tuple[Span, ...] | None = None


def read_speaker_map(path: Path, audio: Any = None) -> list[Speaker]:
    """The speakers of a dialogue from a YAML or JSON file; see :func:`parse_speaker_map`.

    Paths in it are looked for from the working folder, then from the file's own. Raises InputError naming the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the speaker map {path}: {error}") from error
    return parse_speaker_map(text, audio, name=str(path), folder=path.parent)


def parse_speaker_map(
    text: str, audio: Any = None, *, name: str = "the speaker map", folder: Path | None = None
) -> list[Speaker]:
    """The speakers of a dialogue.

    text: YAML or JSON, an object with ``segments``, a list of ``{person, start, end}`` in seconds of the output, each
    with an ``audio`` of its own or that of the top level, which the argument ``audio`` (as ``Speaker`` takes it)
    replaces. ``person`` is an index, ``largest``, ``left`` and the like, a point ``[x, y]``, or the path of a reference
    picture. Segments of one person may touch but not overlap.
    folder: where files named in the text may lie; None allows no files.

    Raises InputError naming the segment.
    """
    source = _Source(name, folder)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"cannot read {name}: {error}") from error
    segments = content.get("segments") if isinstance(content, dict) else None
    if not isinstance(segments, list) or not segments:
        raise InputError(f"{name} is no speaker map: expected `segments:` with entries {{person, start, end}}")
    unknown = sorted(map(str, set(content) - {"segments", "audio"}))
    if unknown:
        raise InputError(f"{name}: unknown key {', '.join(unknown)}; a speaker map has 'audio' and 'segments'")
    default = audio if audio is not None else source.file("the top level", content.get("audio"))
    speakers: list[Speaker] = []
    for number, segment in enumerate(segments):
        person, sound, span = _segment(source, f"{name}, segment {number}", segment, default)
        same = (i for i, s in enumerate(speakers) if s.audio is sound or s.audio == sound if _same(s.person, person))
        place = next(same, None)
        if place is None:
            speakers.append(Speaker(person, sound, (span,)))
        else:
            spans = tuple(sorted([*(speakers[place].spans or ()), span]))
            speakers[place] = Speaker(person, sound, spans)
    for speaker in speakers:
        _refuse_overlap(name, speaker)
    speakers = [replace(speaker, person=source.person(speaker.person)) for speaker in speakers]
    check_speakers(speakers)
    return speakers


def check_speakers(speakers: Sequence[Speaker]) -> None:
    """Refuse a person who would say two things at once. Raises InputError."""
    if not speakers:
        raise InputError("no speakers were given; pass at least one")
    taken: list[tuple[PersonSelect, tuple[Span, ...] | None]] = []
    for speaker in speakers:
        for person, spans in taken:
            if _same(person, speaker.person) and _overlap(spans, speaker.spans):
                raise InputError(
                    f"person {_name(speaker.person)} would speak two sounds at once; separate them in time"
                )
        taken.append((speaker.person, speaker.spans))


def parse_speaker(text: str) -> Speaker:
    """``WHO=AUDIO`` as written on a command line. Raises InputError."""
    who, equals, audio = text.partition("=")
    if not (who and equals and audio):
        raise InputError(f"{text!r} is no speaker; write WHO=AUDIO, such as 0=first.wav")
    return Speaker(parse_person(who), Path(audio))


def parse_person(text: str) -> PersonSelect:
    """A person as written on a command line: an index, a word, a point ``X,Y``, or the path of a picture."""
    if text in WORDS:
        return text
    if text.isdecimal():
        return int(text)
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        return read_reference(Path(text))
    return x, y


def read_reference(path: Path) -> Any:
    """A reference picture as uint8 RGB ``[H, W, 3]``. Raises InputError."""
    from .video.frames import FrameSource

    if not path.is_file():
        raise InputError(
            f"{str(path)!r} names nobody: pass {', '.join(WORDS)}, an index, a point X,Y in pixels, or the path of a "
            "picture of the face"
        )
    with FrameSource.open(path) as picture:
        return picture[0]


@dataclass(frozen=True)
class _Source:
    """Where a map comes from: its name for messages, and the folder of the files it names."""

    name: str
    folder: Path | None

    def file(self, where: str, entry: Any) -> Path | None:
        if entry is None:
            return None
        if isinstance(entry, str) and self.folder is not None:
            for candidate in (Path(entry), self.folder / entry):
                if candidate.is_file():
                    return candidate
        looked = "files cannot be named here" if self.folder is None else "looked in the working folder and beside it"
        raise InputError(f"{where}: no file {entry!r}; {looked}")

    def person(self, entry: Any) -> PersonSelect:
        if isinstance(entry, tuple) and len(entry) == 2 and all(_is_number(value) for value in entry):
            return float(entry[0]), float(entry[1])
        if isinstance(entry, int) and not isinstance(entry, bool):
            return entry
        if isinstance(entry, str) and (entry in WORDS or self.folder is not None):
            beside = None if self.folder is None or Path(entry).is_file() else self.folder / entry
            return read_reference(beside) if beside is not None and beside.is_file() else parse_person(entry)
        raise InputError(
            f"{self.name}: person is {entry!r}; give an index, {', '.join(WORDS)}, a point [x, y]"
            + ("" if self.folder is None else ", or a picture's path")
        )


def _segment(source: _Source, where: str, segment: Any, default: Any) -> tuple[Any, Any, Span]:
    if not isinstance(segment, dict) or not {"person", "start", "end"} <= set(segment) <= _KEYS:
        has = ", ".join(map(str, segment)) if isinstance(segment, dict) else type(segment).__name__
        raise InputError(f"{where}: expected {{person, start, end}} and perhaps audio, got {has or 'nothing'}")
    sound = source.file(where, segment.get("audio")) or default
    if sound is None:
        raise InputError(f"{where}: no sound; name an 'audio' here or at the top level")
    start, end = (_seconds(where, name, segment[name]) for name in ("start", "end"))
    if end <= start:
        raise InputError(f"{where}: ends at {float(end):g} s, before it starts at {float(start):g} s")
    person = segment["person"]
    return tuple(person) if isinstance(person, list) else person, sound, (start, end)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(where: str, name: str, value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise InputError(f"{where}: {name} is {value!r}; give seconds from 0, such as 2.5")
    return Fraction(value).limit_denominator(1_000_000)


def _refuse_overlap(name: str, speaker: Speaker) -> None:
    for (_, end), (start, _) in pairwise(speaker.spans or ()):
        if start < end:
            raise InputError(f"{name}: two segments of person {speaker.person} overlap at {float(start):g} s")


def _same(one: PersonSelect, other: PersonSelect) -> bool:
    return type(one) is type(other) and isinstance(one, (int, str, tuple)) and one == other


def _overlap(one: tuple[Span, ...] | None, other: tuple[Span, ...] | None) -> bool:
    if one is None or other is None:
        return True
    return any(a < d and c < b for a, b in one for c, d in other)


def _name(person: PersonSelect) -> str:
    return str(person) if isinstance(person, (int, str, tuple)) else "of the reference picture"
