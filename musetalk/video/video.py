"""Video files as frames: exact indices, forward and backward, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import InputError
from .color import ColorInfo, RgbDecoder
from .container import open_container
from .frames import FrameSource, check_size, hash_file
from .orientation import Orientation
from .scan import Scan, scan_video, video_stream
from .timing import make_timeline


class VideoFrames(FrameSource):
    """A video file. See FrameSource.open for what is done about rates, rotation and colour."""

    path: Path

    def __init__(self, path: Path, fps: Fraction | None, *, parity: bool, cache_bytes: int) -> None:
        self.path = path
        scan = scan_video(path)
        self._decoder = _Decoder(path, scan, cache_bytes)
        try:
            first = self._decoder.frame(0)
            check_size(first.width, first.height, path)
            stream = self._decoder.stream
            self._timeline = make_timeline(
                scan.ticks, scan.time_base, scan.last_ticks, (stream.average_rate, stream.guessed_rate), fps
            )
            self.color = ColorInfo.of(first, stream.codec_context)
        except BaseException:
            self._decoder.close()
            raise
        self.fps = self._timeline.fps
        self._stored_size = (first.width, first.height)
        self._orientation = Orientation.of(first)
        self.width, self.height = self._orientation.size(*self._stored_size)
        self._to_rgb = RgbDecoder(parity)
        self._hash: str | None = None

    def __len__(self) -> int:
        return len(self._timeline.shown)

    def _frame(self, index: int) -> np.ndarray:
        source = self._timeline.shown[index]
        frame = self._decoder.frame(source)
        if (frame.width, frame.height) != self._stored_size:
            raise InputError(
                f"{self.path} changes size from {self._stored_size} to {(frame.width, frame.height)} at "
                f"frame {source}; split it there"
            )
        return self._orientation.apply(self._to_rgb(frame))

    def content_hash(self) -> str:
        if self._hash is None:
            digest = hashlib.sha256()
            hash_file(self.path, digest)
            self._hash = digest.hexdigest()
        return self._hash

    def close(self) -> None:
        self._decoder.close()


class _Decoder:
    """Decoded frames by number.

    The frames decoded last are kept, as decoded, up to a budget in bytes: a step back within it costs
    nothing, and a longer run back decodes each group of pictures in pieces of that size.
    """

    def __init__(self, path: Path, scan: Scan, cache_bytes: int) -> None:
        self._path, self._scan = path, scan
        self._budget, self._room = cache_bytes, 1
        self._kept: dict[int, av.VideoFrame] = {}
        self._open()

    def frame(self, index: int) -> av.VideoFrame:
        """Frame `index` of the scan. Raises InputError where it cannot be decoded."""
        if index in self._kept:
            return self._kept[index]
        keyframe = self._scan.keyframe_before(index)
        if index < self._position or (keyframe and keyframe.index > self._position):
            if keyframe:
                self._seek(keyframe.index, keyframe.ticks)
            else:
                self._reopen()
        found = self._run_to(index)
        if found is None:
            # The container seeks past its own keyframes, or marks frames as keyframes that are not whole.
            self._reopen()
            found = self._run_to(index)
        if found is None:
            seconds = float((self._scan.ticks[index] - self._scan.ticks[0]) * self._scan.time_base)
            raise InputError(
                f"{self._path}: frame {index} at {seconds:.3f} s cannot be decoded; the file is damaged there"
            )
        return found

    def close(self) -> None:
        self._kept.clear()
        self._container.close()

    def _open(self) -> None:
        self._container = open_container(self._path)
        self.stream = video_stream(self._container, self._path)
        self._position = 0
        self._frames = self._decode(0)

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _seek(self, index: int, ticks: int) -> None:
        try:
            self._container.seek(ticks, stream=self.stream, backward=True)
        except av.error.FFmpegError:
            self._reopen()
            return
        self._kept.clear()
        self._position = index
        self._frames = self._decode(index)

    def _run_to(self, index: int) -> av.VideoFrame | None:
        for number, frame in self._frames:
            self._keep(number, frame)
            self._position = number + 1
            if number >= index:
                return frame if number == index else None
        return None

    def _keep(self, number: int, frame: av.VideoFrame) -> None:
        if not self._kept:
            self._room = max(1, self._budget // max(1, sum(plane.buffer_size for plane in frame.planes)))
        while len(self._kept) >= self._room:
            del self._kept[next(iter(self._kept))]
        self._kept[number] = frame

    def _decode(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Whole frames from the container's position on, numbered, without those before `first`.

        After a seek, those may be predicted from frames that were not decoded.
        """
        try:
            whole = (frame for frame in self._container.decode(self.stream) if not frame.is_corrupt)
            for count, frame in enumerate(whole):
                number = count if self._scan.by_count else self._number(frame)
                if number is not None and number >= first:
                    yield number, frame
        except av.error.FFmpegError:
            return  # the caller names the frame that did not come

    def _number(self, frame: av.VideoFrame) -> int | None:
        if frame.pts is None:
            return None
        place = int(np.searchsorted(self._scan.ticks, frame.pts))
        return place if place < len(self._scan.ticks) and self._scan.ticks[place] == frame.pts else None
