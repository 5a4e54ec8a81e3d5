"""What a stranger's upload must be before the engine looks at it: a known kind, by its bytes, of a bounded size."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..video.container import open_container, reading
from ..video.frames import FrameSource
from ..video.scan import video_stream

_HEAD = 64
_FTYP_IMAGES = (b"heic", b"heix", b"mif1", b"avif", b"avis")
_PICTURES = (".png", ".jpg", ".webp")


@dataclass(frozen=True)
class UploadLimits:
    """Of one upload. max_bytes: the file. max_side: pixels. max_seconds: footage. decoded_bytes: all its pictures."""

    max_bytes: int = 200 << 20
    max_side: int = 1920
    max_seconds: float = 60.0
    max_fps: float = 60.0
    decoded_bytes: int = 2 << 30


def kind_of(path: Path) -> str:
    """The suffix that belongs to a file, by its first bytes: of MP4/MOV, Matroska/WebM, AVI, PNG, JPEG or WebP.

    Anything else is refused before a demuxer sees it: playlists and scripts could name other files. Raises InputError.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip") and head[8:12] not in _FTYP_IMAGES:
        return ".mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return ".mkv"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return ".png"
    if head.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return ".webp"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return ".avi"
    raise InputError("the upload is no MP4, MOV, MKV, WebM, AVI, PNG, JPEG or WebP file; convert it to one of these")


def check_file(path: Path, limits: UploadLimits) -> str:
    """Refuse a file by its size and first bytes. Returns the suffix it should have. Raises InputError."""
    size = path.stat().st_size
    if not 0 < size <= limits.max_bytes:
        raise InputError(
            f"the upload has {size} bytes; send 1 to {limits.max_bytes} bytes ({limits.max_bytes >> 20} MiB)"
        )
    return kind_of(path)


def open_upload(path: Path, limits: UploadLimits) -> FrameSource:
    """Open a checked file whose suffix is its kind's. Raises InputError for what is damaged, too large or too long.

    Sides, rate and length are read from headers and packet times first: nothing large is decoded to be refused.
    """
    if path.suffix in _PICTURES:
        _check_sides(*_picture_sides(path), limits)
    else:
        _check_video(path, limits)
    frames = FrameSource.open(path)
    try:
        _check_sides(*frames.size, limits)
        decoded = 3 * len(frames) * frames.width * frames.height
        if decoded > limits.decoded_bytes:
            raise InputError(
                f"the footage is {len(frames)} pictures of {frames.width}x{frames.height}, {decoded >> 20} MiB; "
                f"{limits.decoded_bytes >> 20} MiB are allowed: send a shorter or a smaller one"
            )
    except InputError:
        frames.close()
        raise
    return frames


def _picture_sides(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            return picture.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"the picture cannot be read ({error}); save it anew") from error


def _check_video(path: Path, limits: UploadLimits) -> None:
    """By the container's word and the packets' times, without decoding."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        _check_sides(stream.codec_context.width, stream.codec_context.height, limits)
        times: list[int] = []
        with reading(path, "video"):
            for packet in container.demux(stream):
                if packet.pts is not None:
                    times.append(packet.pts)
                if len(times) > limits.max_seconds * limits.max_fps:
                    raise InputError(
                        f"the footage has over {len(times) - 1} pictures; send at most {limits.max_seconds:g} s "
                        f"at {limits.max_fps:g} per second"
                    )
        base = stream.time_base or Fraction(1, 1000)
        starts = float((max(times) - min(times)) * base) if times else 0.0
        declared = (container.duration or 0) / av.time_base
        if max(starts, declared) > limits.max_seconds:
            raise InputError(
                f"the footage is {max(starts, declared):.1f} s long; send at most {limits.max_seconds:g} s"
            )


def _check_sides(width: int, height: int, limits: UploadLimits) -> None:
    if max(width, height) > limits.max_side:
        raise InputError(f"the footage is {width}x{height} pixels; a side may have {limits.max_side}, scale it down")
