"""A folder of talking videos to a training set: resumable, parallel over videos, and the same however it was run.

Layout of the result: ``dataset.json`` (see `dataset_index`), ``report.json`` (see `data_report`), ``shards/*.tar`` (see
`clip_file` for what is in them), ``journal.jsonl``. While it is made, ``prepared/<content>/`` holds clips that wait for
their shard.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError, OutputError
from ..extras import require
from ..face.names import LANDMARK_SOURCES
from ..face.published import open_landmarks
from ..video.target import hidden_sibling
from .data_report import DataReport
from .dataset_index import SHARDS
from .journal import FILE as JOURNAL
from .journal import Journal
from .packing import Packer
from .preprocess import Settings, is_prepared, read_record
from .video_list import Video, content_hashes, list_videos, split_videos
from .workers import Job, run_jobs

Progress = Callable[[str, int, int], None]
_PREPARED = "prepared"
_LOCK = ".lock"
# A clip takes about as much room as what it is cut from; this is what surely will not do.
_LEAST_ROOM = 0.5
_MIN_SECONDS, _MAX_SECONDS = 4, 30


@dataclass(frozen=True)
class BuildOptions:
    """How a training set is made.

    min_face: least width in pixels of a clip's first box. clip_seconds: longest clip. landmarks: name of the source.
    models: folder with DWPose's weights. shard_bytes: about how large a shard is. workers: processes; with 1 everything
    happens in this one. validation: share of the videos that validate, or validation_list: their names.
    """

    min_face: int = 150
    clip_seconds: float = 30
    landmarks: str = "facemesh"
    models: Path = Path("models")
    shard_bytes: int = 1 << 30
    workers: int = 1
    validation: float = 0.02
    validation_list: Collection[str] | None = None

    def __post_init__(self) -> None:
        if not _MIN_SECONDS <= self.clip_seconds <= _MAX_SECONDS:
            raise InputError(f"clip seconds is {self.clip_seconds}; pass {_MIN_SECONDS} to {_MAX_SECONDS}")
        if self.workers < 1:
            raise InputError(f"workers is {self.workers}; pass at least 1")
        if self.min_face < 1:
            raise InputError(f"min face is {self.min_face}; pass at least 1 pixel")
        if self.shard_bytes < 1:
            raise InputError(f"the shard size is {self.shard_bytes} bytes; pass more")
        if not 0 <= self.validation < 1:
            raise InputError(f"validation is {self.validation}; it is a share, from 0 to less than 1")
        if self.landmarks not in LANDMARK_SOURCES:
            raise InputError(f"landmarks is {self.landmarks!r}; use one of {', '.join(LANDMARK_SOURCES)}")

    @property
    def settings(self) -> Settings:
        return Settings(self.min_face, round(self.clip_seconds * 25), self.landmarks)


def build_dataset(
    source: Path | str, out: Path | str, options: BuildOptions | None = None, *, progress: Progress | None = None
) -> DataReport:
    """Make a training set of the videos in a folder, or go on with one.

    What an earlier run finished is kept, also from videos that are gone by now; new videos go to new shards. The result
    does not depend on the number of workers. progress(stage, done, total) is called after each video.

    Raises InputError for a source without videos, options that make no sense or are not those the folder was begun
    with; OutputError for a folder that cannot be written, is worked on by another process, or has too little room;
    ModelFileError without the weights that ``landmarks`` needs.
    """
    options = options or BuildOptions()
    report_progress = progress or (lambda stage, done, total: None)
    require("webdataset", "train")
    out = Path(out)
    videos = list_videos(Path(source), out)
    open_landmarks(options.landmarks, options.models)
    with _sole_writer(out):
        journal = Journal.open(out, asdict(options.settings))
        splits = split_videos(videos, options.validation, options.validation_list, journal.splits)
        todo, copies, failures = _choose(videos, journal, lambda done, total: report_progress("reading", done, total))
        _clean(out, journal)
        _check_room(out, [video for video, _ in todo])
        packer = Packer(journal, options.shard_bytes)
        done = len(videos) - len(todo)
        jobs = [_job(out, video, content, options) for video, content in todo]
        with closing(run_jobs(jobs, options.workers)) as problems:
            for (video, _), job, problem in zip(todo, jobs, problems, strict=True):
                if problem:
                    failures[video.name] = problem
                else:
                    record = read_record(job.folder)
                    # A killed run may have prepared, and packed a part of, the same content under another name.
                    split = journal.splits.get(record.name, splits[video.name])
                    packer.add(record, video, split, job.folder)
                done += 1
                report_progress("training clips", done, len(videos))
        packer.finish()
        shutil.rmtree(out / _PREPARED, ignore_errors=True)
        journal.index().save(asdict(options.settings))
        report = DataReport.of(journal.index(), list(journal.videos.values()), copies, failures)
        report.save()
    return report


def _choose(
    videos: Sequence[Video], journal: Journal, progress: Callable[[int, int], None]
) -> tuple[list[tuple[Video, str]], list[str], dict[str, str]]:
    """What is to be prepared, with its content; names of copies; and what cannot be read."""
    unknown = [video for video in videos if video.stamp not in journal.stamps]
    todo: list[tuple[Video, str]] = []
    copies: list[str] = []
    failures: dict[str, str] = {}
    names = {content: record.name for content, record in journal.videos.items()}
    for video, content in zip(unknown, content_hashes(unknown, progress), strict=True):
        if isinstance(content, OSError):
            failures[video.name] = f"it cannot be read ({content.strerror or content})"
        elif content not in names:
            names[content] = video.name
            todo.append((video, content))
        elif names[content] != video.name:
            copies.append(video.name)
    return todo, copies, failures


def _job(out: Path, video: Video, content: str, options: BuildOptions) -> Job:
    return Job(video.path, video.name, content, out / _PREPARED / content, options.settings, options.models)


def _clean(out: Path, journal: Journal) -> None:
    """Remove what a killed run left half done. What it had prepared is kept, unless it is in shards already."""
    named = {shard.name for shards in journal.shards.values() for shard in shards}
    for path in (out / SHARDS).iterdir():
        if path.name not in named and (path.suffix == ".part" or path.name.startswith(("train-", "val-"))):
            path.unlink()
    for path in (out / _PREPARED).iterdir():
        if path.name in journal.videos or path.suffix == ".part" or not is_prepared(path):
            shutil.rmtree(path, ignore_errors=True)


def _check_room(out: Path, videos: Sequence[Video]) -> None:
    needed = int(_LEAST_ROOM * sum(video.size for video in videos))
    free = shutil.disk_usage(out).free
    if free < needed:
        raise OutputError(
            f"{out} has room for {free / 1e9:.1f} GB, and at least about {needed / 1e9:.1f} GB are needed for "
            f"{len(videos)} videos; free some, or choose another disk"
        )


@contextmanager
def _sole_writer(out: Path) -> Iterator[None]:
    """Make the folders, see that they can be written, and keep other processes out."""
    if not (out / JOURNAL).exists() and any(path.is_file() and path.name != _LOCK for path in out.rglob("*")):
        raise OutputError(f"{out} holds files that are no data set of ours; choose an empty or a new folder")
    try:
        for folder in (out, out / SHARDS, out / _PREPARED):
            folder.mkdir(parents=True, exist_ok=True)
        probe = hidden_sibling(out / SHARDS / "probe")
        probe.touch(exist_ok=False)
        probe.unlink()
        lock = FileLock(out / _LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise OutputError(f"another process is making the data set in {out}; wait for it") from None
    except OSError as error:
        raise OutputError(f"cannot write in {out} ({error.strerror or error}); choose another --out") from error
    try:
        yield
    finally:
        lock.release()
