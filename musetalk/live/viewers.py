"""Who watches a session: a bounded queue each, so that nobody waits for anybody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from types import TracebackType

from .errors import LiveError
from .timeline import AudioItem, MediaItem, VideoItem

VIDEO_KEPT = 4
AUDIO_KEPT_S = 10


class Viewer:
    """The items of a session from now on, in order: ``async for item in viewer``, best under ``async with``.

    Who reads too slowly loses the oldest pictures, never sound; who has not read for ten seconds is let go, with
    LiveError. The iteration ends when the session does. dropped: pictures lost so far.
    """

    def __init__(self, leave: Callable[[Viewer], None], packets_per_second: int, video_kept: int = VIDEO_KEPT) -> None:
        self.dropped = 0
        self._leave = leave
        self._order = count()
        self._video: deque[tuple[int, VideoItem]] = deque(maxlen=video_kept)
        self._audio: deque[tuple[int, AudioItem]] = deque()
        self._most_audio = AUDIO_KEPT_S * packets_per_second
        self._news = asyncio.Event()
        self._closed = False
        self._error: LiveError | None = None

    def put(self, item: MediaItem) -> None:
        """Queue an item; never waits. Called by the session."""
        if self._closed:
            return
        if isinstance(item, VideoItem):
            self.dropped += len(self._video) == self._video.maxlen
            self._video.append((next(self._order), item))
        elif len(self._audio) < self._most_audio:
            self._audio.append((next(self._order), item))
        else:
            self._error = LiveError(
                f"the viewer has not read for {AUDIO_KEPT_S} s and was let go; open another, and read as items come"
            )
            self._video.clear()
            self._audio.clear()
            self._end()
        self._news.set()

    def finish(self) -> None:
        """What is queued can still be read, then the iteration ends. Called by the session."""
        self._end()

    async def aclose(self) -> None:
        """Stop watching. What is queued is dropped."""
        self._video.clear()
        self._audio.clear()
        self._end()

    def __aiter__(self) -> Viewer:
        return self

    async def __anext__(self) -> MediaItem:
        while not (self._video or self._audio):
            if self._closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if not self._audio or (self._video and self._video[0][0] < self._audio[0][0]):
            return self._video.popleft()[1]
        return self._audio.popleft()[1]

    async def __aenter__(self) -> Viewer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._leave(self)
        self._news.set()
