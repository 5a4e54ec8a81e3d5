"""``dataset.json``: which shards a training set has, and which clips are in each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
SHARDS = "shards"
VERSION = 1
_FILE = "dataset.json"


@dataclass(frozen=True)
class ClipEntry:
    """key: of the sample. source: name of the video it is from. frames: at 25 fps. face: first box's width, pixels."""

    key: str
    source: str
    frames: int
    face: int


@dataclass(frozen=True)
class Shard:
    """name: of the tar in the shards folder. clips: in the order in which they lie in it."""

    name: str
    clips: tuple[ClipEntry, ...]


@dataclass(frozen=True)
class DatasetIndex:
    """The shards of a training set in ``folder``."""

    folder: Path
    train: tuple[Shard, ...]
    val: tuple[Shard, ...]

    def shards(self, split: Split) -> tuple[Shard, ...]:
        return self.train if split == "train" else self.val

    def path(self, shard: Shard) -> Path:
        return self.folder / SHARDS / shard.name

    @classmethod
    def load(cls, folder: Path | str) -> DatasetIndex:
        """Read the index and see that its shards are there.

        Raises InputError for a folder without a readable index, one of another version, or with shards missing.
        """
        folder = Path(folder)
        file = folder / _FILE
        if not file.is_file():
            raise InputError(
                f"{folder} has no {_FILE}; make a data set with `musetalk train-data SOURCE --out {folder}`"
            )
        try:
            contents = json.loads(file.read_text("utf-8"))
            version = contents["version"]
            train, val = (tuple(_shard(entry) for entry in contents[split]["shards"]) for split in SPLITS)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is no data set's index ({type(error).__name__}: {error})") from error
        if version != VERSION:
            raise InputError(f"{file} is of version {version}; this program reads {VERSION}: make the data set anew")
        index = cls(folder, train, val)
        lost = [shard.name for shard in (*train, *val) if not index.path(shard).is_file()]
        if lost:
            raise InputError(
                f"{folder / SHARDS} lacks {', '.join(lost[:3])} ({len(lost)} of the index's shards in all)"
            )
        return index

    def save(self, settings: Mapping[str, Any]) -> None:
        """Write the index; what was there is replaced in one step."""
        contents: dict[str, Any] = {"version": VERSION, "fps": 25, "sample_rate": 16000, "settings": dict(settings)}
        for split in SPLITS:
            shards = self.shards(split)
            clips = [clip for shard in shards for clip in shard.clips]
            contents[split] = {
                "clips": len(clips),
                "seconds": sum(clip.frames for clip in clips) / 25,
                "shards": [asdict(shard) for shard in shards],
            }
        part = self.folder / f".{_FILE}.part"
        part.write_text(json.dumps(contents, indent=1), "utf-8")
        part.replace(self.folder / _FILE)


def _shard(entry: Mapping[str, Any]) -> Shard:
    return Shard(
        str(entry["name"]),
        tuple(ClipEntry(str(c["key"]), str(c["source"]), int(c["frames"]), int(c["face"])) for c in entry["clips"]),
    )
