"""One utterance on its way through a session: sound in, windows and pictures for it, sound and pictures out."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
import torch

_TRIM = 1 << 16


class SegmentSound:
    """Signed 16-bit mono sound with two readers: the lips ahead, the loudspeaker behind; what both have is dropped.

    heard, fed, played: samples that came in, went to the lips, were played.
    """

    def __init__(self) -> None:
        self.heard = self.fed = self.played = 0
        self._bytes = bytearray()
        self._first = 0
        self._half = b""
        self._is_fed = True

    def push(self, pcm: bytes) -> None:
        """Append bytes of any number: half a sample waits for its other half."""
        whole = self._half + pcm
        even = len(whole) // 2 * 2
        self._half = whole[even:]
        self._bytes += whole[:even]
        self.heard += even // 2

    def feed(self, count: int) -> np.ndarray:
        """Up to ``count`` samples for the lips, float32 ``[n]``, full scale 1.0."""
        samples = np.frombuffer(self._read(self.fed, count), "<i2").astype(np.float32) / 32768
        self.fed += len(samples)
        self._trim()
        return samples

    def play(self, count: int) -> bytes:
        """``count`` samples for the loudspeaker, silence where the sound has ended."""
        pcm = self._read(self.played, count)
        self.played += len(pcm) // 2
        self._trim()
        return pcm.ljust(2 * count, b"\0")

    def holds(self, count: int) -> bool:
        """Whether the next ``count`` samples to be played are there."""
        return self.heard - self.played >= count

    def stop_feeding(self) -> None:
        """The lips need no more of it."""
        self._is_fed = False

    def _read(self, start: int, count: int) -> bytes:
        first = 2 * (start - self._first)
        return bytes(self._bytes[first : first + 2 * count])

    def _trim(self) -> None:
        needed = min(self.fed, self.played) if self._is_fed else self.played
        done = 2 * (needed - self._first)
        if done >= _TRIM:
            del self._bytes[:done]
            self._first += done // 2


@dataclass(eq=False)
class SpokenFrame:
    """A frame of a segment whose window is there. position: of the footage it is drawn on. asked: a job is under way.

    answered: the worker is through with it. picture: uint8 RGB ``[H, W, 3]``, None until, or where it failed.
    """

    window: torch.Tensor
    position: int
    asked: bool = False
    answered: bool = False
    picture: np.ndarray | None = None


class Segment:
    """One utterance; position 0 of its sound is position 0 of its frames.

    ended: no more sound will come. known: up to which frame the windows have come. complete: no more windows will
    come, because all came or because the lips were given up. blind: the sound waits for no windows just now. next: the
    frame to be played next. frames: those known and not played. dropped: cut off; nobody needs anything of it.
    """

    def __init__(self, number: int, rate: int) -> None:
        self.number = number
        self.rate = rate
        self.sound = SegmentSound()
        self.frames: dict[int, SpokenFrame] = {}
        self.known = self.next = 0
        self.ended = self.complete = self.dropped = False
        self.playing = self.blind = False
        self.waited = self.lead_waited = 0

    @property
    def played_ms(self) -> int:
        return self.sound.played * 1000 // self.rate

    @property
    def left_s(self) -> float:
        """Seconds of sound that came in and were not played."""
        return (self.sound.heard - self.sound.played) / self.rate

    @property
    def is_over(self) -> bool:
        return self.ended and self.sound.played >= self.sound.heard

    @property
    def fully_fed(self) -> bool:
        return self.ended and self.sound.fed >= self.sound.heard

    def frames_left(self, fps: Fraction) -> int:
        """How many frames the sound takes that came in and was not played."""
        return ceil((self.sound.heard - self.sound.played) * fps / self.rate)

    def add_window(self, index: int, window: torch.Tensor, position: int | None) -> None:
        """The window of a frame, float32 ``[50, C]``, and its place in the footage; None where its time has passed."""
        if position is not None:
            self.frames[index] = SpokenFrame(window, position)
        self.known = index + 1

    def has_sound(self, count: int) -> bool:
        """Whether the next ``count`` samples can be played without a gap."""
        return self.ended or self.sound.holds(count)

    def ready_frames(self) -> int:
        """Frames from the next one on that the worker is through with, without a gap."""
        count = 0
        while (frame := self.frames.get(self.next + count)) is not None and frame.answered:
            count += 1
        return count

    def give_up_lips(self) -> None:
        """No more windows will come; the sound goes on."""
        self.complete = True
        self.sound.stop_feeding()

    def take(self) -> SpokenFrame | None:
        """The frame to be played now, with whatever has come of it; the following one is next."""
        frame = self.frames.pop(self.next, None)
        self.next += 1
        return frame
