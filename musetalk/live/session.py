"""One conversation: a voice streams in, and a person who says it streams out, on one timeline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from fractions import Fraction
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from ..errors import OutputError
from .clock import Clock, MonotonicClock
from .errors import LiveError, SessionClosedError, SessionLimitError, TooMuchAudioError
from .lips import Engine, LipCounts, Lips
from .live_avatar import LiveAvatar
from .packets import Packets
from .recording import Recording
from .speech import Speech
from .stage import Stage
from .streaming import FeatureStream
from .timeline import FPS, PACKETS_PER_SECOND, MediaItem, Played, SessionEvent, SessionLimits, VideoItem, check_rate
from .viewers import VIDEO_KEPT, Viewer

logger = logging.getLogger(__name__)

CATCH_UP_S = 1

Listener = Callable[[SessionEvent], None]


class Session:
    """A voice goes in with ``push_pcm``, pictures and sound come out of ``media``; all from one event loop.

    Frame ``k`` is due at ``k / fps`` seconds after the start, sound likewise; both are stamped by counting, so they
    cannot drift apart. Idle, the footage goes on with its mouth closed. Where pictures are late the last one is held
    for 120 ms, then the mouth closes; the sound goes on. After a halt of the process of up to a second the sound
    catches up and the pictures missed are left out; after a longer one the timeline skips, and nothing is lost but
    time.

    id: of the session. avatar: on screen. fps: exact. now: the frame that is due next. skipped: frames left out.
    lips: counts of pictures. The session owns the avatars it is given: it releases each when it shows another, or ends.
    """

    def __init__(
        self,
        session_id: str,
        worker: Engine,
        avatar: LiveAvatar,
        make_features: Callable[[], FeatureStream],
        *,
        fps: Fraction = FPS,
        limits: SessionLimits | None = None,
        clock: Clock | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Call in the event loop. make_features: a new stream for each segment. executor: for drawing and features;
        None is the loop's own."""
        self.id = session_id
        self.fps = Fraction(fps)
        self.limits = limits or SessionLimits()
        self.now = 0
        self.skipped = 0
        self._clock = clock or MonotonicClock()
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._worker = worker
        self._speech = Speech(self.fps, self.limits.ahead_s)
        self._stage = Stage(avatar, self.fps)
        self._lips = Lips(session_id, self._speech, self._stage, worker, make_features, self.fps, executor)
        self._packets = Packets()
        self._viewers: WeakSet[Viewer] = WeakSet()
        self._listeners: list[Listener] = []
        self._recording: Recording | None = None
        self._room = asyncio.Event()
        self._cuts = 0
        self._cut = False
        self._switching: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None
        self._begun_at = self._watched_at = self._busy_at = self._clock.now()
        self._was_watched = False

    def start(self) -> None:
        """Begin the timeline. Raises SessionLimitError when the worker has no room."""
        self._worker.register(self.id)
        self._begun_at = self._watched_at = self._busy_at = self._clock.now()
        self._tasks = [
            self._loop.create_task(self._guarded(self._play()), name=f"live-play-{self.id}"),
            self._loop.create_task(self._guarded(self._lips.run()), name=f"live-lips-{self.id}"),
        ]

    @property
    def avatar(self) -> LiveAvatar:
        return self._stage.avatar

    @property
    def lips(self) -> LipCounts:
        return self._lips.counts

    @property
    def closed(self) -> bool:
        return self._closing is not None

    @property
    def ahead_s(self) -> float:
        """Seconds of sound that are not played yet."""
        return self._speech.ahead_s

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    async def push_pcm(self, pcm: bytes, rate: int, *, wait: bool = True) -> int:
        """Append sound to the open segment, or begin one: mono, signed 16 bit little endian, in packets of any size.

        Waits while ``ahead_s`` seconds are not played yet; a ``clear`` meanwhile drops the sound. Returns the number
        of its segment, -1 when it was dropped. Raises TooMuchAudioError for a packet that is longer than may wait at
        all, or, without ``wait``, does not fit now; InputError for a rate that cannot be; SessionClosedError.
        """
        cuts = self._cuts
        self._require_open()
        seconds = len(pcm) / 2 / check_rate(rate)
        if seconds > self.limits.ahead_s:
            raise TooMuchAudioError(f"a packet of {seconds:.1f} s; send at most {self.limits.ahead_s:g} s at once")
        while not self._speech.has_room(pcm, rate):
            if not wait:
                raise TooMuchAudioError(
                    f"{self._speech.ahead_s:.1f} s of sound wait to be played, and {self.limits.ahead_s:g} s may; "
                    "send no faster than it is played"
                )
            self._room.clear()
            await self._room.wait()
            self._require_open()
            if cuts != self._cuts:
                return -1
        self._busy_at = self._clock.now()
        number = self._speech.push(pcm, rate)
        self._lips.wake()
        return number

    def end_of_segment(self) -> None:
        """The utterance is complete: what waits for more sound is played, and the next sound begins a new one."""
        self._speech.end()
        self._lips.wake()

    def clear(self) -> Played:
        """Stop speaking: all sound that was pushed is dropped, and the next picture has its mouth closed.

        Returns exactly how much of the sound had been given to the viewers.
        """
        played = self._speech.clear()
        self._lips.forget()
        self._stage.silence()
        self._cuts += 1
        self._cut = True
        self._room.set()
        self._tell_speech_events()
        return played

    def media(self, video_kept: int = VIDEO_KEPT) -> Viewer:
        """Watch from now on. Raises SessionLimitError when as many watch as may, SessionClosedError."""
        self._require_open()
        if len(self._viewers) >= self.limits.viewers:
            raise SessionLimitError(f"{len(self._viewers)} viewers watch session {self.id}; no more may")
        viewer = Viewer(self._viewers.discard, PACKETS_PER_SECOND, video_kept)
        self._viewers.add(viewer)
        self._was_watched = True
        return viewer

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have events told, in the event loop; returns what stops it. A listener returns at once."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    async def switch_avatar(self, avatar: LiveAvatar) -> None:
        """Show another avatar from the next frame on; returns when it is on screen. Speech goes on.

        The session owns it from this call on, whatever happens. Raises SessionClosedError.
        """
        try:
            self._require_open()
        except SessionClosedError:
            avatar.release()
            raise
        before = self._stage.avatar
        self._stage.become(avatar)
        # Not on the next frame, which may be 40 ms away: each of them is a picture more that comes in time.
        self._lips.redraw()
        self._end_switching()
        self._switching = self._loop.create_future()
        shown = self._switching
        before.release()
        await shown
        self._require_open()

    def record(self, path: str | Path) -> None:
        """Record what a viewer gets from now on into an MP4 that appears when it is complete.

        Raises OutputError for a target that cannot be written, LiveError when a recording runs already.
        """
        self._require_open()
        if self._is_recording:
            raise LiveError(f"session {self.id} records already; stop that first")
        self._recording = Recording(path, self.fps, self.avatar.frame_size, self.limits.recording_s)

    async def stop_recording(self) -> Path:
        """Finish the recording and return its path. Raises OutputError, or LiveError where there is none."""
        recording, self._recording = self._recording, None
        if recording is None:
            raise LiveError(f"session {self.id} does not record")
        return await recording.stop()

    def expiry(self) -> str | None:
        """Why the session should be closed now, None while it should not."""
        now, limits = self._clock.now(), self.limits
        if self._viewers or self._is_recording:
            self._watched_at = now
        if now - self._begun_at > limits.length_s:
            return f"it has lasted {limits.length_s:g} s"
        if now - self._watched_at > limits.connect_s:
            what = "has watched for" if self._was_watched else "came to watch within"
            return f"nobody {what} {limits.connect_s:g} s"
        if now - self._busy_at > limits.idle_s:
            return f"nothing was said for {limits.idle_s:g} s"
        return None

    async def close(self, reason: str = "") -> None:
        """End the session and free all of it; a recording is finished. May be called again."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(reason), name=f"live-close-{self.id}")
        await asyncio.shield(self._closing)

    async def _play(self) -> None:
        while True:
            await self._clock.sleep_until(self._due(self.now))
            behind = int((self._clock.now() - self._due(0)) * self.fps) - self.now
            if behind > CATCH_UP_S * self.fps:
                self._skip_to(self.now + behind)
            elif behind > 0:
                # Only the sound of these: it has to be complete, pictures need not be.
                for _ in range(behind):
                    self._advance()
                self.skipped += behind
            self._advance()
            self._deliver(await self._paint(self.now - 1))

    def _advance(self) -> None:
        """Play one frame's share of the sound, and go on to its picture."""
        index = self.now
        if self._switching is not None:
            self._tell(SessionEvent("avatar", index))
            self._end_switching()
        cue = self._speech.tick(index)
        # What is left of a segment at its end has no picture of its own.
        heard = cue.segment is not None and not cue.is_rest
        self._stage.show(cue.frame, self._lips.awaited_position(), heard=heard)
        for packet in self._packets.add(cue.pcm, cue.rate, cue.start):
            self._deliver(packet)
        if cue.segment is not None:
            self._busy_at = self._clock.now()
            if heard and not self._stage.speaking:
                self._lips.counts.lost += 1
            self._room.set()
        self._tell_speech_events()
        self.now += 1
        self._lips.ask(self._due(self.now))
        self._lips.wake()

    async def _paint(self, index: int) -> VideoItem:
        image: np.ndarray | None = None
        speaking = False
        while image is None or self._cut:
            # Speech may be cut off while its picture is drawn; then the picture is drawn anew, closed.
            cut, self._cut = self._cut, False
            speaking = self._stage.speaking
            image = await self._loop.run_in_executor(self._executor, self._stage.painter(cut=cut))
        return VideoItem(index, image, speaking)

    def _skip_to(self, index: int) -> None:
        self.skipped += index - self.now
        logger.warning("session %s: halted for %d frames; the timeline goes on after them", self.id, index - self.now)
        self.now = index
        self._speech.pause()
        rate = self._speech.rate
        for packet in self._packets.skip_to(self._speech.sample_of(index, rate), rate):
            self._deliver(packet)

    def _end_switching(self) -> None:
        """The avatar is on screen, was overtaken by another, or the session ends."""
        switching, self._switching = self._switching, None
        if switching is not None and not switching.done():
            switching.set_result(None)

    def _due(self, index: int) -> float:
        return self._begun_at + float(index / self.fps)

    def _deliver(self, item: MediaItem) -> None:
        for viewer in list(self._viewers):
            viewer.put(item)
        if self._recording is not None:
            self._recording.put(item)

    def _tell_speech_events(self) -> None:
        events, self._speech.events = self._speech.events, []
        for kind, segment, played_ms in events:
            self._tell(SessionEvent(kind, self.now, segment, played_ms))

    def _tell(self, event: SessionEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("session %s: a listener failed at %s", self.id, event.kind)

    @property
    def _is_recording(self) -> bool:
        return self._recording is not None and not self._recording.finished

    def _require_open(self) -> None:
        if self.closed:
            raise SessionClosedError(f"session {self.id} has ended; create another")

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("session %s failed and is closed", self.id)
            self._closing = self._closing or self._loop.create_task(self._close("it failed; the log has the reason"))

    async def _close(self, reason: str) -> None:
        try:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._speech.clear()
            self._lips.forget()
            self._worker.unregister(self.id)
            for viewer in list(self._viewers):
                viewer.finish()
            await self._finish_recording()
        finally:
            self._room.set()
            self._tell(SessionEvent("closed", self.now, detail=reason))
            self._listeners.clear()
            self._end_switching()
            self._stage.avatar.release()

    async def _finish_recording(self) -> None:
        if self._recording is None:
            return
        try:
            await self._recording.stop()
        except OutputError as error:
            logger.warning("session %s: the recording failed: %s", self.id, error)
        except Exception:
            logger.exception("session %s: the recording failed", self.id)
