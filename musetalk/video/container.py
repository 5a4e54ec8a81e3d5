"""Opening files with PyAV, with errors a user can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from ..errors import InputError

_BOXES = frozenset(b"ftyp moov mdat moof free skip wide uuid sidx styp mfra meta".split())
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def require_file(path: Path) -> None:
    """Raise InputError unless `path` is a file with something in it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file")
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")


def open_container(path: Path) -> av.container.InputContainer:
    """Open a media file for reading. Raises InputError for what is missing, empty, damaged or no media."""
    require_file(path)
    try:
        # Playlists in media's clothing must not reach for the network.
        return av.open(str(path), "r", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if is_truncated(path):
            raise InputError(f"{path} is cut short: the file ends before its contents do; copy it again") from error
        raise InputError(f"{path} cannot be read as video or sound ({_reason(error)})") from error


@contextmanager
def reading(path: Path, what: str = "contents") -> Iterator[None]:
    """Turn FFmpeg's errors while reading `what` of `path` into InputError."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise InputError(f"{path}: the {what} cannot be decoded ({_reason(error)}); the file is damaged") from error


def is_truncated(path: Path) -> bool:
    """Whether an MP4/MOV or Matroska/WebM file ends before the boxes it declares do."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if int.from_bytes(head[:4], "big") == _EBML:
            return _segment_end(head + file.read(1024)) > size
        position = 0
        while position + 8 <= size:
            file.seek(position)
            box = file.read(16)
            length = int.from_bytes(box[:4], "big")
            if length == 1:
                length = int.from_bytes(box[8:16], "big")
            if box[4:8] not in _BOXES or length == 0:
                return False
            position += max(length, 8)
        return position > size


def _segment_end(head: bytes) -> int:
    """Where a Matroska file's segment says it ends; 0 for streams of unknown size."""
    position = 4
    value, width, _ = _ebml_size(head, position)
    position += width + value
    if int.from_bytes(head[position : position + 4], "big") != _SEGMENT:
        return 0
    value, width, unknown = _ebml_size(head, position + 4)
    return 0 if unknown else position + 4 + width + value


def _ebml_size(data: bytes, position: int) -> tuple[int, int, bool]:
    first = data[position] if position < len(data) else 0
    if not first:
        return 0, 1, True
    width = 9 - first.bit_length()
    mask = (1 << (7 * width)) - 1
    value = int.from_bytes(data[position : position + width], "big") & mask
    return value, width, value == mask


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
