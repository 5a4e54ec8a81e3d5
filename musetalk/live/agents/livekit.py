"""A live session as LiveKit's ``VideoGenerator``: what LiveKit's ``AvatarRunner`` publishes into a room."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from ... import extras
from ..timeline import AudioItem, Played, SessionEvent
from ..viewers import Viewer
from .base import AvatarSink


class AvatarMedia(AvatarSink, Protocol):
    """A sink whose pictures and sound can be taken too. A live session is one."""

    @property
    def fps(self) -> Fraction:
        """Pictures a second, exactly."""

    def media(self) -> Viewer:
        """Pictures and sound from now on."""

    def listen(self, listener: Callable[[SessionEvent], None]) -> Callable[[], None]:
        """Have events told; returns what stops it."""


class LiveKitVideoGenerator:
    """Takes the agent's speech and gives back pictures all the time, and sound while something is said.

    Silence is not given out: LiveKit counts what was played by the sound it gets. Needs the ``livekit`` extra; the
    runner's ``audio_sample_rate`` must be that of the sound that is pushed.
    """

    def __init__(self, avatar: AvatarMedia) -> None:
        """Raises InputError where LiveKit is not installed."""
        self._rtc = extras.require("livekit.rtc", "livekit")
        contract = extras.require("livekit.agents.voice.avatar", "livekit")
        contract.VideoGenerator.register(LiveKitVideoGenerator)
        self._segment_end = contract.AudioSegmentEnd
        self._avatar = avatar

    async def push_audio(self, frame: Any) -> None:
        """An ``rtc.AudioFrame``, or the ``AudioSegmentEnd`` after the last of an utterance."""
        if isinstance(frame, self._segment_end):
            self._avatar.end_of_segment()
            return
        pcm = bytes(frame.data)
        if frame.num_channels > 1:
            channels = np.frombuffer(pcm, "<i2").reshape(-1, frame.num_channels)
            pcm = np.rint(channels.mean(axis=1)).astype("<i2").tobytes()
        await self._avatar.push_pcm(pcm, frame.sample_rate)

    def clear_buffer(self) -> Played:
        """The viewer interrupts: silence at once."""
        return self._avatar.clear()

    async def __aiter__(self) -> AsyncIterator[Any]:
        marks: deque[SessionEvent] = deque()
        speaking = False
        stop_listening = self._avatar.listen(marks.append)
        try:
            async with self._avatar.media() as items:
                async for item in items:
                    if not isinstance(item, AudioItem):
                        yield self._picture(item.image)
                        continue
                    time = Fraction(item.pts_samples, item.rate)
                    while marks and self._time_of(marks[0]) <= time:
                        mark = marks.popleft()
                        if mark.kind in ("started", "resumed"):
                            speaking = True
                        elif mark.kind in ("stalled", "ended", "cleared"):
                            speaking = False
                        if mark.kind == "ended":
                            yield self._segment_end()
                    if speaking:
                        yield self._rtc.AudioFrame(item.pcm, item.rate, 1, len(item.pcm) // 2)
        finally:
            stop_listening()

    def _time_of(self, event: SessionEvent) -> Fraction:
        """When it happened, in seconds of the session. All but a clearing are told after the frame that shows them."""
        frame = event.pts_frames if event.kind == "cleared" else event.pts_frames - 1
        return frame / self._avatar.fps

    def _picture(self, image: np.ndarray) -> Any:
        height, width = image.shape[:2]
        return self._rtc.VideoFrame(
            width, height, self._rtc.VideoBufferType.RGB24, np.ascontiguousarray(image).tobytes()
        )
