"""What a finished job says about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .face.boxes import ShiftRange, shift_range
from .face.track import FaceTrack, Jitter, PassThrough


@dataclass(frozen=True)
class SpeakerReport:
    """One person who was redrawn.

    person: index among the people of the clip, None where only one face was followed. passed: runs of source frames
    that stayed as filmed, and why. shift_range: the usable ``bbox_shift``, None when only boxes are known. jitter: of
    the landmarks in pixels, before and after smoothing, None where not known.
    """

    person: int | None
    passed: tuple[PassThrough, ...]
    shift_range: ShiftRange | None
    jitter: Jitter | None

    @classmethod
    def of(cls, track: FaceTrack, person: int | None = None) -> SpeakerReport:
        return cls(person, track.passed, shift_range(track), track.jitter)

    def lines(self) -> list[str]:
        """The same in words, for people."""
        who = "" if self.person is None else f"person {self.person}: "
        lines = [f"{who}source frames {span.first}-{span.last} left as filmed: {span.reason}" for span in self.passed]
        if self.jitter is not None:
            lines.append(f"{who}landmark jitter {self.jitter.raw:.2f} px, {self.jitter.smoothed:.2f} px when smoothed")
        if self.shift_range is not None:
            lines.append(f"{who}{self.shift_range}")
        return lines


@dataclass(frozen=True)
class LipSyncReport:
    """What a finished job did.

    frames: how many were written, at exactly ``fps``. speakers: one report per speaker. seconds: per stage (stages
    overlap).
    """

    output: Path
    frames: int
    fps: Fraction
    width: int
    height: int
    speakers: tuple[SpeakerReport, ...]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**asdict(self), "output": str(self.output), "fps": str(self.fps)}

    def lines(self) -> list[str]:
        """What happened to the footage, in words."""
        return [line for speaker in self.speakers for line in speaker.lines()]
