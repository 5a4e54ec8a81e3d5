"""What a session puts on its timeline, and how much of everything it allows.

Time is counted, never measured: video in frames at ``fps``, sound in samples at its own rate. Frame ``k`` begins at
``k / fps`` seconds and 20 ms packet ``j`` at ``j / 50`` seconds after the session's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np

from ..errors import InputError

FPS = Fraction(25)
PACKETS_PER_SECOND = 50
SILENCE_RATE = 48000
MIN_RATE, MAX_RATE = 8000, 96000


@dataclass(frozen=True)
class VideoItem:
    """One picture of the session.

    pts_frames: which frame of the session, at its ``fps``. image: uint8 RGB ``[H, W, 3]``, shared by all viewers:
    read only. speaking: the mouth follows a sound; False while idle, and where a late picture was replaced by the one
    before it or by a closed mouth.
    """

    pts_frames: int
    image: np.ndarray
    speaking: bool


@dataclass(frozen=True)
class AudioItem:
    """20 ms of the session's sound: silence where nothing is said.

    pts_samples: first sample, counted at ``rate``. pcm: mono, signed 16 bit little endian, ``rate // 50`` samples.
    rate: Hz; that of the sound as it was pushed. It may change from one item to the next, between two segments;
    ``pts_samples / rate`` is the time in seconds all the same.
    """

    pts_samples: int
    pcm: bytes
    rate: int


MediaItem: TypeAlias = VideoItem | AudioItem
EventKind: TypeAlias = Literal["started", "stalled", "resumed", "ended", "cleared", "avatar", "closed"]


@dataclass(frozen=True)
class Played:
    """How far a viewer got when speech was cut.

    played_ms: of the sound of ``segment``: the one being spoken, else the last one, spoken in full or cut before, else
    -1. Segments that had not begun come after it.
    """

    segment: int
    played_ms: int


@dataclass(frozen=True)
class SessionLimits:
    """What one server allows. All times in seconds.

    sessions: at once. viewers: of one session. ahead_s: sound kept that is not played yet. connect_s: without anybody
    watching or recording. idle_s: without any sound. length_s: of a session altogether. recording_s: of one recording.
    """

    sessions: int = 8
    viewers: int = 4
    ahead_s: float = 60.0
    connect_s: float = 30.0
    idle_s: float = 300.0
    length_s: float = 3600.0
    recording_s: float = 600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"session limit {name} is {value}; it must be above 0")


def check_rate(rate: int) -> int:
    """A sample rate whose 20 ms are whole samples. Raises InputError for any other."""
    if not isinstance(rate, int) or not MIN_RATE <= rate <= MAX_RATE or rate % PACKETS_PER_SECOND:
        raise InputError(
            f"sound at {rate!r} Hz cannot be streamed; send {MIN_RATE}..{MAX_RATE} Hz, a multiple of "
            f"{PACKETS_PER_SECOND} (16000, 22050, 24000, 44100, 48000)"
        )
    return rate


@dataclass(frozen=True)
class SessionEvent:
    """Something a client may want to know at once.

    kind: ``started`` (a segment's first sound is played), ``stalled`` (its sound has not come; the mouth closes),
    ``resumed``, ``ended`` (all of it was played), ``cleared`` (it was cut off), ``avatar`` (another one is on screen),
    ``closed`` (the session has ended). segment: which, -1 where none is meant. pts_frames: when, in frames of the
    session. played_ms: how much of the segment's sound had been played. detail: for people.
    """

    kind: EventKind
    pts_frames: int
    segment: int = -1
    played_ms: int = 0
    detail: str = ""
