"""Clips of finished videos into shards, in an order that neither the number of workers nor a kill changes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .clip_file import MEMBERS
from .dataset_index import SHARDS, SPLITS, ClipEntry, Shard, Split
from .journal import Journal
from .preprocess import VideoRecord
from .shards import write_shard
from .video_list import Video


@dataclass(frozen=True)
class _Waiting:
    """A video whose clips are prepared in ``folder``, and not yet all in shards."""

    record: VideoRecord
    video: Video
    split: Split
    folder: Path


class Packer:
    """Takes prepared videos in order and writes a shard whenever one is full.

    A video's folder is let go when the shard with its last clip is finished and in the journal; until then a killed run
    finds it again.
    """

    def __init__(self, journal: Journal, shard_bytes: int) -> None:
        self._journal = journal
        self._shard_bytes = shard_bytes
        self._packed = journal.packed
        self._folder = journal.path.parent / SHARDS
        self._waiting: dict[Split, list[_Waiting]] = {split: [] for split in SPLITS}
        self._clips: dict[Split, list[tuple[ClipEntry, Path]]] = {split: [] for split in SPLITS}
        self._bytes: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def add(self, record: VideoRecord, video: Video, split: Split, folder: Path) -> None:
        """A video is prepared. Raises OutputError when a shard cannot be written."""
        self._waiting[split].append(_Waiting(record, video, split, folder))
        for clip, size in zip(record.clips, record.sizes, strict=True):
            if clip.key in self._packed:
                continue  # its shard was finished before a kill, the video was not
            self._clips[split].append((clip, folder))
            self._bytes[split] += size
            if self._bytes[split] >= self._shard_bytes:
                self._write(split)
        self._let_go(split)

    def finish(self) -> None:
        """Write what is left, in shards that are smaller."""
        for split in SPLITS:
            if self._clips[split]:
                self._write(split)
            self._let_go(split)

    def _write(self, split: Split) -> None:
        clips = self._clips[split]
        name = f"{split}-{len(self._journal.shards[split]):06d}.tar"
        samples = (
            (clip.key, {member: (folder / f"{clip.key}.{member}").read_bytes() for member in MEMBERS})
            for clip, folder in clips
        )
        write_shard(self._folder / name, samples)
        self._journal.add_shard(split, Shard(name, tuple(clip for clip, _ in clips)))
        self._packed.update(clip.key for clip, _ in clips)
        self._clips[split], self._bytes[split] = [], 0

    def _let_go(self, split: Split) -> None:
        left: list[_Waiting] = []
        for one in self._waiting[split]:
            if all(clip.key in self._packed for clip in one.record.clips):
                self._journal.add_video(one.record, one.split, one.video.stamp)
                shutil.rmtree(one.folder, ignore_errors=True)
            else:
                left.append(one)
        self._waiting[split] = left
