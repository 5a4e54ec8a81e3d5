"""One viewer's half of a session as two WebRTC tracks, encoded beside the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import suppress
from fractions import Fraction
from typing import Generic, TypeVar

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, Packet

from .encoding import SoundAt48k, VideoEncoder
from .timeline import AudioItem, VideoItem
from .viewers import Viewer

# Encoding and scheduling have this long; within it, both tracks leave exactly on time.
DELAY_SECONDS = 0.06
_VIDEO_KEPT = 3
_AUDIO_KEPT = 100

Item = TypeVar("Item", VideoItem, AudioItem)


class ViewerTracks:
    """Takes the items of one viewer apart for the two tracks of a peer connection.

    Items from before :meth:`begin` are passed over, so that a peer starts with the present. on_video is called with
    each picture's item as it leaves the session.
    """

    def __init__(
        self,
        items: Viewer,
        executor: Executor,
        on_video: Callable[[VideoItem], None],
        fps: Fraction,
    ) -> None:
        self._pace = _Pace()
        self._fps = fps
        self.video = PictureTrack(executor, self._pace)
        self.audio = SoundTrack(self._pace)
        self._items = items
        self._on_video = on_video
        self._begun = False

    def begin(self) -> None:
        """The peer is connected: items count from now on."""
        self._begun = True

    async def run(self) -> None:
        """Hand items to the tracks until the session ends. Raises LiveError for a viewer that the session let go."""
        try:
            async for item in self._items:
                if not self._begun:
                    continue
                if isinstance(item, VideoItem):
                    self._pace.arrived(float(item.pts_frames / self._fps))
                    self._on_video(item)
                    self.video.queue.put(item)
                else:
                    self._pace.arrived(item.pts_samples / item.rate)
                    self.audio.queue.put(item)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the tracks, and the viewer's place in the session."""
        self.video.stop()
        self.audio.stop()
        await self._items.aclose()


class _Pace:
    """When the items of a viewer leave: a fixed time after the moment that their time stamp stands for.

    The sender reports of a peer connection say which time stamp left when; a receiver brings lips and voice together by
    them, so a picture that took long to encode must not count as one that was taken later.
    """

    def __init__(self) -> None:
        self._origin: float | None = None

    def arrived(self, seconds: float) -> None:
        """An item of the time stamp ``seconds`` has come. Those that were not held up set the pace."""
        origin = asyncio.get_running_loop().time() - seconds
        self._origin = origin if self._origin is None else min(self._origin, origin)

    async def wait(self, seconds: float) -> None:
        """Return when the item of that time stamp is to leave; at once for one that is late."""
        if self._origin is not None:
            late = asyncio.get_running_loop().time() - self._origin - seconds
            await asyncio.sleep(max(0.0, DELAY_SECONDS - late))


class _Queue(Generic[Item]):
    """The newest few items; a peer that cannot keep up loses the oldest."""

    def __init__(self, kept: int) -> None:
        self._items: deque[Item] = deque(maxlen=kept)
        self._news = asyncio.Event()
        self._ended = False

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._news.set()

    def end(self) -> None:
        self._items.clear()
        self._ended = True
        self._news.set()

    async def get(self) -> Item:
        """Raises MediaStreamError at the end, as a track does."""
        while not self._items:
            if self._ended:
                raise MediaStreamError
            self._news.clear()
            await self._news.wait()
        return self._items.popleft()


class PictureTrack(MediaStreamTrack):
    """Encoded pictures; ``encoder`` is set once a codec is agreed on, before the first is asked for."""

    kind = "video"

    def __init__(self, executor: Executor, pace: _Pace) -> None:
        super().__init__()
        self.encoder: VideoEncoder | None = None
        self.queue: _Queue[VideoItem] = _Queue(_VIDEO_KEPT)
        self._executor = executor
        self._pace = pace
        self._keyframe = False
        self._packets: deque[Packet] = deque()

    def request_keyframe(self) -> None:
        """Make the next picture complete in itself."""
        self._keyframe = True

    async def recv(self) -> Packet:
        while not self._packets:
            item = await self.queue.get()
            keyframe, self._keyframe = self._keyframe, False
            self._packets.extend(await self._encode(item, keyframe))
        packet = self._packets.popleft()
        if packet.pts is not None and packet.time_base is not None:
            await self._pace.wait(float(packet.pts * packet.time_base))
        return packet

    async def _encode(self, item: VideoItem, keyframe: bool) -> list[Packet]:
        encoder = self.encoder
        if encoder is None:
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: encoder.encode(item, keyframe=keyframe))

    def stop(self) -> None:
        self.queue.end()
        super().stop()


class SoundTrack(MediaStreamTrack):
    """Sound at 48 kHz, mono, 20 ms a frame."""

    kind = "audio"

    def __init__(self, pace: _Pace) -> None:
        super().__init__()
        self._pace = pace
        self.queue: _Queue[AudioItem] = _Queue(_AUDIO_KEPT)
        self._converter = SoundAt48k()

    async def recv(self) -> AudioFrame:
        item = await self.queue.get()
        frame = self._converter.convert(item)
        await self._pace.wait(item.pts_samples / item.rate)
        return frame

    def stop(self) -> None:
        self.queue.end()
        super().stop()


async def microphone_packets(track: MediaStreamTrack) -> AsyncIterator[tuple[bytes, int]]:
    """A viewer's microphone as mono s16 little endian packets with their rate, until the track ends."""
    with suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            if not isinstance(frame, AudioFrame):
                continue
            samples = frame.to_ndarray()
            channels = len(frame.layout.channels)
            mono = samples.reshape(-1, channels).mean(axis=1) if not frame.format.is_planar else samples.mean(axis=0)
            yield mono.astype("<i2").tobytes(), frame.sample_rate
