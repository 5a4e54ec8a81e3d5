"""The videos of a folder: which there are, what they contain, and which of them validate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..video.frames import hash_file
from .dataset_index import Split

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"})
_READERS = 4


@dataclass(frozen=True)
class Video:
    """A file: its path, its name (relative to the source folder, with slashes), its size in bytes and time stamp."""

    path: Path
    name: str
    size: int
    mtime_ns: int

    @property
    def stamp(self) -> tuple[str, int, int]:
        """What tells, without reading it, that a file is the same as it was."""
        return self.name, self.size, self.mtime_ns


def list_videos(source: Path, out: Path) -> list[Video]:
    """The videos in a folder and its subfolders (but not in ``out``), or one file, in an order that mixes them.

    The order depends on the names alone: neighbours in it, which will be neighbours in a shard, are not neighbours in
    the alphabet. Raises InputError where there is nothing.
    """
    if source.is_file():
        paths: Iterable[Path] = [source]
        root = source.parent
    elif source.is_dir():
        if source.resolve() == out.resolve():
            raise InputError(f"{out} is the source folder itself; choose another --out")
        inside = out.resolve()
        paths = (path for path in source.rglob("*") if inside not in path.resolve().parents)
        root = source
    else:
        raise InputError(f"{source} does not exist; give a folder of talking videos")
    videos = []
    for path in paths:
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file():
            about = path.stat()
            videos.append(Video(path, path.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns))
    if not videos:
        raise InputError(
            f"{source} holds no video ({', '.join(sorted(VIDEO_SUFFIXES))}); give a folder of talking videos"
        )
    return sorted(videos, key=lambda video: (name_hash(video.name), video.name))


def name_hash(name: str) -> float:
    """A name's place between 0 and 1, the same everywhere and for ever."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def content_hashes(videos: Sequence[Video], progress: Callable[[int, int], None] | None = None) -> list[str | OSError]:
    """SHA-256 (hex) of each file, or the error that reading it gave."""

    def one(video: Video) -> str | OSError:
        digest = hashlib.sha256()
        try:
            hash_file(video.path, digest)
        except OSError as error:
            return error
        return digest.hexdigest()

    hashes: list[str | OSError] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for done, found in enumerate(pool.map(one, videos), start=1):
            hashes.append(found)
            if progress is not None:
                progress(done, len(videos))
    return hashes


def split_videos(
    videos: Sequence[Video], share: float, listed: Collection[str] | None, known: Mapping[str, Split]
) -> dict[str, Split]:
    """Train or val for each video's name: a video's clips are never in both.

    listed: the names that validate (as `Video.name`, or the file's name with or without suffix); else a video does
    where :func:`name_hash` is below ``share``, and where no video's is, the one with the least. known: decided by an
    earlier run, and kept. Raises InputError for a listed name that no video has.
    """
    if listed is not None:
        chosen = {video.name for video in videos if not _names(video).isdisjoint(listed)}
        unknown = sorted(set(listed) - {name for video in videos for name in _names(video)})
        if unknown:
            raise InputError(
                f"the validation list names {', '.join(unknown[:3])} ({len(unknown)} in all), which the source does "
                "not hold; correct the list"
            )
    else:
        chosen = {video.name for video in videos if name_hash(video.name) < share}
        if not chosen and share > 0 and len(videos) > 1 and "val" not in known.values():
            chosen = {min((video.name for video in videos), key=name_hash)}
    return {video.name: known.get(video.name, "val" if video.name in chosen else "train") for video in videos}


def read_validation_list(path: Path) -> list[str]:
    """The names in a text file, one a line; empty lines and those that begin with # are left out."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the validation list {path} cannot be read ({error})") from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise InputError(f"the validation list {path} names no video; use --validation 0 for none")
    return names


def _names(video: Video) -> set[str]:
    return {video.name, video.path.name, video.path.stem}
