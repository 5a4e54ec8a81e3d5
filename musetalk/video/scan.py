"""What frames a video file holds, without decoding it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np

from ..errors import InputError
from .container import is_truncated, open_container, reading
from .timing import DEFAULT_RATE

_HEAD = 8
_COVER_CODECS = {"mjpeg", "png", "bmp", "gif", "webp", "tiff"}


@dataclass(frozen=True)
class Keyframe:
    """Where decoding can start: the first frame that is whole from there, and where to seek, in ticks."""

    index: int
    ticks: int


@dataclass(frozen=True)
class Scan:
    """Every frame of a video stream in presentation order.

    ticks: int64 [n], ascending, in units of `time_base` seconds. by_count: the file's times do not tell
    frames apart, so a frame is known by its place in decoder output; such a file can only be read from its
    start.
    """

    ticks: np.ndarray
    time_base: Fraction
    last_ticks: int
    keyframes: tuple[Keyframe, ...]
    by_count: bool = False

    def keyframe_before(self, index: int) -> Keyframe | None:
        """The last keyframe at or before frame `index`; None when only the file's start will do."""
        place = bisect_right(self.keyframes, index, key=lambda keyframe: keyframe.index)
        return self.keyframes[place - 1] if place else None


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first real video stream (not cover art). Raises InputError without one."""
    for stream in container.streams.video:
        if stream.average_rate or stream.codec_context.name not in _COVER_CODECS:
            stream.thread_type = "AUTO"
            return stream
    kind = "only sound" if container.streams.audio else "neither pictures nor sound"
    raise InputError(f"{path} holds {kind}; give a video, an image or a folder of images")


def scan_video(path: Path) -> Scan:
    """Read a video's packet times.

    Decodes the first few frames to be sure that one packet is one frame, and the whole file only where it is
    not. Raises InputError for a file that is cut short, damaged or without frames.
    """
    with open_container(path) as container:
        if is_truncated(path):
            raise InputError(f"{path} is cut short: the file ends before its contents do; copy it again")
        stream = video_stream(container, path)
        hides_frames = stream.codec_context.name == "vp8"
        with reading(path, "video"):
            packets = [_Packet.of(packet, hides_frames) for packet in container.demux(stream) if packet.size]
        assert stream.time_base is not None
        if not packets:
            raise InputError(f"{path} holds no frames")
        times = [packet.pts for packet in packets if packet.shown]
        if times and None not in times and len(set(times)) == len(times):
            ticks = np.sort(np.array(times, dtype=np.int64))
            if _head_matches(path, ticks):
                return _make(ticks, stream.time_base, packets)
        return _scan_by_decoding(path, packets)


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    shown: bool

    @classmethod
    def of(cls, packet: av.Packet, hides_frames: bool) -> _Packet:
        # Edited files keep frames only because others are predicted from them; VP8 has such frames by design.
        hidden = packet.is_discard or (hides_frames and not bytes(packet)[0] & 0x10)
        return cls(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, not hidden)


def _make(ticks: np.ndarray, time_base: Fraction, packets: list[_Packet]) -> Scan:
    last = next((packet.duration for packet in packets if packet.shown and packet.pts == ticks[-1]), 0)
    usual = int(np.median(np.diff(ticks))) if len(ticks) > 1 else 1
    keyframes = [
        # Some containers seek by decode time, some by presentation time; the earlier of the two suits both.
        Keyframe(
            int(np.searchsorted(ticks, packet.pts)),
            min(packet.pts, packet.pts if packet.dts is None else packet.dts),
        )
        for packet in packets
        if packet.keyframe and packet.pts is not None
    ]
    return Scan(ticks, time_base, last or usual, tuple(sorted(keyframes, key=lambda keyframe: keyframe.index)))


def _head_matches(path: Path, ticks: np.ndarray) -> bool:
    with open_container(path) as container:
        try:
            head = [frame.pts for frame in islice(container.decode(video_stream(container, path)), _HEAD)]
        except av.error.FFmpegError:
            return False
    return bool(head) and head == ticks[: len(head)].tolist()


def _scan_by_decoding(path: Path, packets: list[_Packet]) -> Scan:
    with open_container(path) as container, reading(path, "video"):
        stream = video_stream(container, path)
        times = [frame.pts for frame in container.decode(stream) if not frame.is_corrupt]
        assert stream.time_base is not None
        if not times:
            raise InputError(f"{path} holds no frames that can be decoded")
        if None not in times and all(a < b for a, b in pairwise(times)):
            return _make(np.array(times, dtype=np.int64), stream.time_base, packets)
        rate = stream.average_rate or DEFAULT_RATE
    return Scan(np.arange(len(times), dtype=np.int64), 1 / rate, 1, keyframes=(), by_count=True)
