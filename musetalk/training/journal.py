"""What a data set's making has finished, one line of JSON each, so that it can be killed at any moment and go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from .dataset_index import ClipEntry, DatasetIndex, Shard, Split
from .preprocess import VideoRecord

FILE = "journal.jsonl"


@dataclass
class Journal:
    """The file and what it says. A line counts once it is whole: a last line that a kill cut short is taken off.

    settings: of the first run. shards: finished, by set. videos: finished, by content. splits: by name, the set of each
    video that is finished or has a clip in a finished shard. stamps: (name, bytes, time stamp) of files whose content
    is known to be finished.
    """

    path: Path
    settings: dict[str, Any] | None = None
    shards: dict[Split, list[Shard]] = field(default_factory=lambda: {"train": [], "val": []})
    videos: dict[str, VideoRecord] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    stamps: dict[tuple[str, int, int], str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Any]) -> Journal:
        """Read the journal of a folder, or begin one.

        Raises InputError where it was begun with other settings or is no journal.
        """
        journal = cls(folder / FILE)
        try:
            journal._read()
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{journal.path} is damaged ({type(error).__name__}: {error}); begin again in another folder"
            ) from error
        if journal.settings is None:
            journal._append({"settings": dict(settings)})
            journal.settings = dict(settings)
        elif journal.settings != dict(settings):
            changed = [
                f"{name} {journal.settings.get(name)} (now {value})"
                for name, value in settings.items()
                if journal.settings.get(name) != value
            ]
            raise InputError(f"{folder} was begun with {', '.join(changed)}; pass the same, or another --out")
        return journal

    @property
    def packed(self) -> set[str]:
        """Keys of the clips in finished shards."""
        return {clip.key for shards in self.shards.values() for shard in shards for clip in shard.clips}

    def index(self) -> DatasetIndex:
        return DatasetIndex(self.path.parent, tuple(self.shards["train"]), tuple(self.shards["val"]))

    def add_shard(self, split: Split, shard: Shard) -> None:
        """A shard is on the disk."""
        self._append({"shard": asdict(shard), "set": split})
        self._remember_shard(shard, split)

    def add_video(self, record: VideoRecord, split: Split, stamp: tuple[str, int, int]) -> None:
        """All clips of a video are in finished shards."""
        self._append({"video": record.to_dict(), "set": split, "stamp": list(stamp)})
        self._remember(record, split, stamp)

    def _remember_shard(self, shard: Shard, split: Split) -> None:
        self.shards[split].append(shard)
        # Already now: a video may be killed between its shards, and the next run be told to split otherwise.
        self.splits.update((clip.source, split) for clip in shard.clips)

    def _remember(self, record: VideoRecord, split: Split, stamp: tuple[str, int, int]) -> None:
        self.videos[record.content] = record
        self.splits[record.name] = split
        self.stamps[stamp] = record.content

    def _read(self) -> None:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        for line in whole.decode("utf-8").splitlines():
            entry = json.loads(line)
            if "settings" in entry:
                self.settings = entry["settings"]
            elif "shard" in entry:
                clips = tuple(ClipEntry(**clip) for clip in entry["shard"]["clips"])
                self._remember_shard(Shard(entry["shard"]["name"], clips), entry["set"])
            else:
                name, size, mtime_ns = entry["stamp"]
                self._remember(VideoRecord.of(entry["video"]), entry["set"], (name, size, mtime_ns))

    def _append(self, entry: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(entry).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path} ({error.strerror or error}); free some room and run again"
            ) from error
