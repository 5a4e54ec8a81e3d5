"""A session recorded to a file, beside what viewers get."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..audio.source import AudioSource
from ..video.writer import VideoWriter
from .encoding import SOUND_RATE, SoundAt48k
from .timeline import PACKETS_PER_SECOND, AudioItem, MediaItem, VideoItem
from .viewers import Viewer

VIDEO_KEPT = 25


class Recording:
    """Writes the items of a session into a video of one size and constant rate, in a thread of its own.

    The file appears under its name when it is complete, for its owner alone to read (mode 600); what goes wrong leaves
    nothing behind and harms nobody else.
    A picture the encoder was too slow for is the one before it again; of another size, it is fitted into the first.

    path: of the file. finished: nothing more is written: stopped, at its longest, or failed.
    """

    def __init__(self, path: str | Path, fps: Fraction, size: tuple[int, int], longest_s: float) -> None:
        """size: (width, height). Raises OutputError for a target that cannot be written."""
        self.path = Path(path)
        self._sound = _Sound(longest_s)
        width, height = size
        self._writer = VideoWriter(self.path, width, height, fps, audio=self._sound, preset="veryfast", private=True)
        self._film = _Film(self._writer, self._sound, int(longest_s * fps))
        self._viewer = Viewer(lambda viewer: None, PACKETS_PER_SECOND, VIDEO_KEPT)
        self._thread = ThreadPoolExecutor(1, "musetalk-live-record")
        self._task = asyncio.get_running_loop().create_task(self._run(), name="live-record")

    @property
    def finished(self) -> bool:
        return self._task.done()

    def put(self, item: MediaItem) -> None:
        """The next item of the session; never waits."""
        self._viewer.put(item)

    async def stop(self) -> Path:
        """Finish the file. Returns its path; raises OutputError where it could not be written."""
        self._viewer.finish()
        await asyncio.shield(self._task)
        return self.path

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for item in self._viewer:
                if not await loop.run_in_executor(self._thread, self._film.add, item):
                    break
            await loop.run_in_executor(self._thread, self._film.close)
        except BaseException:
            self._thread.submit(self._writer.abort)
            raise
        finally:
            await self._viewer.aclose()
            self._thread.shutdown(wait=False)


class _Film:
    """Puts items in their places: pictures wait until their sound is there, for the writer takes both at once."""

    def __init__(self, writer: VideoWriter, sound: _Sound, longest: int) -> None:
        self._writer = writer
        self._sound = sound
        self._longest = longest
        self._first: int | None = None
        self._written = 0
        self._waiting: deque[VideoItem] = deque()
        self._last: np.ndarray | None = None

    def add(self, item: MediaItem) -> bool:
        """Take an item; False when the recording is as long as it may be."""
        if isinstance(item, AudioItem):
            self._sound.add(item)
        elif self._first is not None and item.pts_frames - self._first >= self._longest:
            self._write(None)
            self._repeat_until(self._longest)
            return False
        else:
            if self._first is None:
                self._first = item.pts_frames
                self._sound.begin(item.pts_frames / self._writer.fps)
            self._waiting.append(item)
        self._write(self._sound.end)
        return True

    def close(self) -> None:
        """Write what waits, and finish the file."""
        self._write(None)
        self._writer.close()

    def _write(self, until: Fraction | None) -> None:
        while self._waiting:
            item = self._waiting[0]
            assert self._first is not None
            index = item.pts_frames - self._first
            if until is not None and (index + 1) / self._writer.fps > until:
                return
            self._waiting.popleft()
            picture = _fitted(item.image, self._writer.width, self._writer.height)
            self._repeat_until(index)
            self._put(picture)
            self._last = picture

    def _repeat_until(self, index: int) -> None:
        while self._written < index and self._last is not None:
            self._put(self._last)

    def _put(self, picture: np.ndarray) -> None:
        self._writer.write(picture[None])
        self._written += 1


class _Sound(AudioSource):
    """Packets as one sound at 48 kHz: what is before the first picture is left out, a gap is silence."""

    sample_rate, channels, path = SOUND_RATE, 1, None

    def __init__(self, longest_s: float) -> None:
        self._longest = round(longest_s * SOUND_RATE)
        self._converter = SoundAt48k()
        self._begin: int | None = None
        self._early: list[tuple[int, np.ndarray]] = []
        self._ready: deque[np.ndarray] = deque()
        self._length = 0

    @property
    def end(self) -> Fraction:
        """Seconds of sound after the first picture's beginning."""
        return Fraction(self._length, SOUND_RATE)

    def begin(self, seconds: Fraction) -> None:
        """The first picture is at this moment of the session."""
        self._begin = round(seconds * SOUND_RATE)
        for position, samples in self._early:
            self._place(position - self._begin, samples)
        self._early.clear()

    def add(self, item: AudioItem) -> None:
        frame = self._converter.convert(item)
        samples = frame.to_ndarray().astype(np.float32) / 32768
        assert frame.pts is not None
        if self._begin is None:
            self._early.append((frame.pts, samples))
        else:
            self._place(frame.pts - self._begin, samples)

    def _place(self, position: int, samples: np.ndarray) -> None:
        if position > self._longest:
            return
        gap = np.zeros((1, max(0, position - self._length)), np.float32)
        placed = np.concatenate([gap, samples[:, max(0, self._length - position) :]], axis=1)
        if placed.shape[1]:
            self._ready.append(placed)
            self._length += placed.shape[1]

    def _blocks(self) -> Iterator[np.ndarray]:
        # The writer asks for what is due only, and is given no picture before its sound is here.
        while self._ready:
            yield self._ready.popleft()


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """An image scaled into ``[height, width, 3]``, its shape kept, black around it."""
    if image.shape[:2] == (height, width):
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = cv2.resize(
        image,
        (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))),
        interpolation=cv2.INTER_AREA,
    )
    framed = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    framed[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return framed
