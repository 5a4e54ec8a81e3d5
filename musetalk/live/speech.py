"""What is said when: the queue of segments, and what each frame of the session plays of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from ..errors import InputError
from .segment import Segment, SpokenFrame
from .timeline import PACKETS_PER_SECOND, SILENCE_RATE, EventKind, Played

LEAD_FRAMES = 3
_PATIENCE_S = 1
# The windows of the last 0.17 s of what came in cannot be there yet: with more than that at hand they are late.
_AT_HAND_S = 0.25


@dataclass(frozen=True)
class Cue:
    """What one frame of the session plays.

    pcm: its share of the sound, at ``rate``, from sample ``start`` of the session on. segment: which is heard, None in
    silence. frame: what is known of its picture, None in silence and where the sound goes on without lips. is_rest:
    what is left of the segment is less than a frame, which has no picture of its own.
    """

    pcm: bytes
    rate: int
    start: int
    segment: Segment | None = None
    frame: SpokenFrame | None = None
    is_rest: bool = False


class Speech:
    """Decides, frame by frame, what is heard; without clock, threads or pictures.

    A segment begins when ``lead`` of its frames are ready (or all of it, or its first has waited ``lead`` frames), on
    a frame of the session. It pauses where its sound does not come, and begins again by the same rule; where sound is
    at hand and only the windows are late, or do not come for a second, or what makes them fails, it goes on without
    lips. It is never stretched.

    rate: Hz of what is heard. events: what happened since they were last taken: kind, segment, played_ms.
    """

    def __init__(self, fps: Fraction, ahead_s: float, lead: int = LEAD_FRAMES) -> None:
        self.rate = SILENCE_RATE
        self.segments: deque[Segment] = deque()
        self.events: list[tuple[EventKind, int, int]] = []
        self._fps = fps
        self._ahead_s = ahead_s
        self._lead = lead
        self._patience = int(_PATIENCE_S * fps)
        self._number = 0
        # A packet's worth, so that no packet holds sound of two rates.
        self._silence_between = ceil(fps / PACKETS_PER_SECOND)
        self._silent = self._silence_between
        self._last_played = Played(-1, 0)
        # Where the sound of the segment in play begins, in samples of the session.
        self._origin = 0

    @property
    def ahead_s(self) -> float:
        """Seconds of sound that are not played yet."""
        return sum(segment.left_s for segment in self.segments)

    def has_room(self, pcm: bytes, rate: int) -> bool:
        """Whether this sound may be pushed now. Raises InputError for a rate that is not the open segment's."""
        segment = self._open_segment()
        if segment is not None and segment.rate != rate:
            raise InputError(
                f"sound at {rate} Hz in a segment that began at {segment.rate} Hz; "
                "end the segment before the rate changes"
            )
        # Less than a frame of the open segment cannot be played before more comes: it must not keep that out.
        return self.ahead_s + len(pcm) / 2 / rate <= self._ahead_s + 1 / self._fps

    def push(self, pcm: bytes, rate: int) -> int:
        """Append sound to the open segment, or begin one. Returns its number."""
        segment = self._open_segment()
        if segment is None:
            segment = Segment(self._number, rate)
            self._number += 1
            self.segments.append(segment)
        segment.sound.push(pcm)
        return segment.number

    def end(self) -> None:
        """The open segment, if any, is complete."""
        segment = self._open_segment()
        if segment is not None:
            segment.ended = True

    def clear(self) -> Played:
        """Cut off what is heard and forget what waits.

        Returns how far the segment in play got; where none had begun, the last one, which was played in full.
        """
        self._forget_finished()
        current = self.segments[0] if self.segments else None
        played = self._last_played
        if current is not None and current.sound.played:
            played = self._last_played = Played(current.number, current.played_ms)
        for segment in self.segments:
            segment.dropped = True
            self.events.append(("cleared", segment.number, segment.played_ms))
        self.segments.clear()
        return played

    def tick(self, index: int) -> Cue:
        """What frame ``index`` of the session plays; asked once for each, in order (see `pause` for gaps)."""
        self._forget_finished()
        segment = self.segments[0] if self.segments else None
        if segment is not None and not segment.playing:
            self._try_to_start(segment, index)
        if segment is not None and segment.playing and not self._can_go_on(segment, index):
            segment.playing, segment.blind, segment.waited = False, False, 0
            self.events.append(("stalled", segment.number, segment.played_ms))
        self._silent = 0 if segment is not None and segment.playing else self._silent + 1
        start = self.sample_of(index, self.rate)
        if segment is None or not segment.playing:
            return Cue(bytes(2 * self._samples(index, self.rate)), self.rate, start)
        count = self.sample_of(index + 1, segment.rate) - self._origin - segment.sound.played
        is_rest = not segment.sound.holds(count)
        return Cue(segment.sound.play(count), segment.rate, start, segment, segment.take(), is_rest)

    def pause(self) -> None:
        """Frames of the session were skipped: the segment in play goes on by the rule for beginning."""
        for segment in self.segments:
            segment.playing = False

    def sample_of(self, index: int, rate: int) -> int:
        """The first sample of a frame, both counted from the start of the session.

        Rounded down: what was given out then never ends after the frame begins, at whatever rate that is counted.
        """
        return int(index * rate / self._fps)

    def _open_segment(self) -> Segment | None:
        last = self.segments[-1] if self.segments else None
        return None if last is None or last.ended else last

    def _forget_finished(self) -> None:
        while self.segments and self.segments[0].is_over:
            segment = self.segments.popleft()
            segment.dropped = True
            self._last_played = Played(segment.number, segment.played_ms)
            self.events.append(("ended", segment.number, segment.played_ms))

    def _try_to_start(self, segment: Segment, index: int) -> None:
        if not segment.has_sound(self._samples(index, segment.rate)):
            return
        if segment.rate != self.rate and self._silent < self._silence_between:
            return
        segment.waited += 1
        ready = segment.ready_frames()
        enough = min(self._lead, segment.known - segment.next) if segment.complete else self._lead
        if ready:
            segment.lead_waited += 1
        has_waited = segment.lead_waited > self._lead or segment.waited > self._patience
        if not (ready >= enough or has_waited or segment.blind):
            return
        segment.blind = ready == 0
        segment.playing = True
        segment.waited = segment.lead_waited = 0
        self.rate = segment.rate
        self._origin = self.sample_of(index, segment.rate) - segment.sound.played
        self.events.append(("resumed" if segment.next else "started", segment.number, segment.played_ms))

    def _can_go_on(self, segment: Segment, index: int) -> bool:
        if segment.known > segment.next:
            segment.blind = False
        has_windows = segment.known > segment.next or segment.complete
        needs_none = segment.blind or segment.ended or segment.left_s >= _AT_HAND_S
        return (has_windows or needs_none) and segment.has_sound(self._samples(index, segment.rate))

    def _samples(self, index: int, rate: int) -> int:
        return self.sample_of(index + 1, rate) - self.sample_of(index, rate)
