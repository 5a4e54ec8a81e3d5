"""A session as LiveKit's VideoGenerator, with LiveKit's own frames and base class, where they are installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.live.agents.livekit import LiveKitVideoGenerator
from musetalk.live.timeline import AudioItem, SessionEvent, VideoItem
from musetalk.live.viewers import Viewer

from .fake_realtime import tone
from .sinks import PacedSink

RATE = 16000


class PacedMedia(PacedSink):
    """The sink of the other tests with a timeline: ``tick`` plays one frame, in the order a session does."""

    fps = Fraction(25)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.speaking = False
        self.viewers: list[Viewer] = []
        self.listeners: list[Callable[[SessionEvent], None]] = []

    def media(self) -> Viewer:
        self.viewers.append(Viewer(self.viewers.remove, 50, 100))
        return self.viewers[-1]

    def listen(self, listener: Callable[[SessionEvent], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def tick(self, event: str = "") -> None:
        index, self.now = self.now, self.now + 1
        if event in ("started", "ended"):
            self.speaking = event == "started"
        for half in (0, 1):
            value = index if self.speaking else 0
            pcm = np.full(RATE // 50, value, "<i2").tobytes()
            self._put(AudioItem((2 * index + half) * RATE // 50, pcm, RATE))
        if event:
            self.tell(event, self.now)
        self._put(VideoItem(index, np.full((4, 6, 3), index, np.uint8), self.speaking))

    def tell(self, kind: str, frame: int) -> None:
        for listener in list(self.listeners):
            listener(SessionEvent(kind, frame, 0))

    def _put(self, item: AudioItem | VideoItem) -> None:
        for viewer in self.viewers:
            viewer.put(item)


def test_without_livekit_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "livekit.rtc", None)
    with pytest.raises(InputError, match=r"musetalk-studio\[livekit\]"):
        LiveKitVideoGenerator(PacedMedia())


@pytest.fixture
def rtc():
    pytest.importorskip("livekit.agents", reason="NOT RUN: needs livekit-agents (the livekit extra)")
    from livekit import rtc

    return rtc


def test_speech_goes_in_as_segments(rtc):
    from livekit.agents.voice.avatar import AudioSegmentEnd

    async def main() -> None:
        sink = PacedMedia()
        generator = LiveKitVideoGenerator(sink)
        mono = tone(20, rate=RATE)
        stereo = np.repeat(np.frombuffer(mono, "<i2"), 2).tobytes()
        await generator.push_audio(rtc.AudioFrame(mono, RATE, 1, 320))
        await generator.push_audio(AudioSegmentEnd())
        await generator.push_audio(rtc.AudioFrame(stereo, RATE, 2, 320))
        assert [bytes(s.pcm) for s in sink.segments] == [mono, mono]
        assert [s.ended for s in sink.segments] == [True, False]
        sink.play(25)
        assert generator.clear_buffer().played_ms == 5

    asyncio.run(main())


def test_pictures_come_always_and_sound_only_while_something_is_said(rtc):
    from livekit.agents.voice.avatar import AudioSegmentEnd, VideoGenerator

    async def main() -> list[object]:
        media = PacedMedia()
        generator = LiveKitVideoGenerator(media)
        assert isinstance(generator, VideoGenerator)
        frames: list[object] = []

        async def read() -> None:
            async for frame in generator:
                frames.append(frame)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        for event in ("", "", "started", "", "ended", "", "started"):
            media.tick(event)
        media.tell("cleared", media.now)
        media.speaking = False
        media.tick()
        media.viewers[0].finish()
        await reading
        assert media.listeners == [] and media.viewers == []
        return frames

    frames = asyncio.run(main())
    pictures = [frame for frame in frames if isinstance(frame, rtc.VideoFrame)]
    assert [bytes(p.data)[0] for p in pictures] == list(range(8))
    assert (pictures[0].width, pictures[0].height, pictures[0].type) == (6, 4, rtc.VideoBufferType.RGB24)
    sound = [frame for frame in frames if isinstance(frame, rtc.AudioFrame)]
    assert [(f.data[0], f.sample_rate, f.samples_per_channel) for f in sound] == [
        (value, RATE, 320) for value in (2, 2, 3, 3, 6, 6)
    ]
    (end,) = [index for index, frame in enumerate(frames) if isinstance(frame, AudioSegmentEnd)]
    assert frames.index(sound[3]) < end < frames.index(sound[4])
