"""What became of the videos of a data set."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .clip_file import FPS
from .dataset_index import SPLITS, DatasetIndex
from .preprocess import VideoRecord

FILE = "report.json"


@dataclass(frozen=True)
class DataReport:
    """All runs into the folder together.

    videos: finished. clips, seconds_kept: by set. seconds_dropped: by reason. without_clips: finished videos that gave
    none. copies: videos left out because another has the same content. failures: videos that cannot be used, and why.
    """

    out: Path
    videos: int
    clips: dict[str, int]
    seconds_kept: dict[str, float]
    seconds_dropped: dict[str, float]
    without_clips: tuple[str, ...]
    copies: tuple[str, ...]
    failures: dict[str, str]

    @classmethod
    def of(
        cls, index: DatasetIndex, records: list[VideoRecord], copies: list[str], failures: dict[str, str]
    ) -> DataReport:
        clips = {split: [clip for shard in index.shards(split) for clip in shard.clips] for split in SPLITS}
        dropped: Counter[str] = Counter()
        for record in records:
            dropped.update(record.dropped)
        return cls(
            out=index.folder,
            videos=len(records),
            clips={split: len(found) for split, found in clips.items()},
            seconds_kept={split: _seconds(sum(clip.frames for clip in found)) for split, found in clips.items()},
            seconds_dropped={reason: _seconds(frames) for reason, frames in dropped.most_common()},
            without_clips=tuple(sorted(record.name for record in records if not record.clips)),
            copies=tuple(sorted(copies)),
            failures=dict(sorted(failures.items())),
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**asdict(self), "out": str(self.out)}

    def save(self) -> None:
        """Write ``report.json`` into the data set's folder, in one step."""
        part = self.out / f".{FILE}.part"
        part.write_text(json.dumps(self.to_dict(), indent=1), "utf-8")
        part.replace(self.out / FILE)

    def lines(self) -> list[str]:
        """The same in words, for people."""
        lines = [f"{self.out}: {self.videos} videos"]
        lines += [f"  {split}: {self.clips[split]} clips, {self.seconds_kept[split]:.1f} s" for split in SPLITS]
        lines += [f"  left out: {seconds:.1f} s, {reason}" for reason, seconds in self.seconds_dropped.items()]
        lines += [f"  no clip from {name}" for name in self.without_clips]
        lines += [f"  {name} has the content of another" for name in self.copies]
        lines += [f"  {name} cannot be used: {reason}" for name, reason in self.failures.items()]
        return lines


def _seconds(frames: int) -> float:
    return float(frames / FPS)
