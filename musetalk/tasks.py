"""Upstream's YAML task files, ``test.yaml`` and ``realtime.yaml`` (spec sections 7.1 and 7.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError


@dataclass(frozen=True)
class Task:
    """One video to make.

    name: the task's or avatar's key. video, audio: existing paths. output: relative to the results folder.
    bbox_shift: pixels, honoured for v1 models only, as upstream does. avatar: folder, relative to the results folder,
    of the avatar to use, None to prepare the footage on the way. prepare: make that avatar first. reuses_avatar: the
    avatar must be there before the first task starts.
    """

    name: str
    video: Path
    audio: Path
    output: Path
    bbox_shift: int
    avatar: Path | None = None
    prepare: bool = False
    reuses_avatar: bool = False


def read_tasks(path: Path) -> list[Task]:
    """Read a task file. Paths in it are looked for from the working folder, then from the file's own folder.

    Raises InputError, naming the task and the key, before any work starts.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the task file {path}: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise InputError(f"{path} is no task file: expected `name: {{video_path: ..., audio_path: ...}}` entries")
    tasks: list[Task] = []
    for name, entry in content.items():
        reader = _Entry(path, str(name), entry)
        tasks += _realtime_tasks(reader) if "audio_clips" in entry else [_offline_task(reader)]
    if not tasks:
        raise InputError(f"{path} holds no task")
    outputs = [task.output for task in tasks]
    for output in outputs:
        if outputs.count(output) > 1:
            raise InputError(f"{path}: two tasks write {output}; give them different result_name values")
    return tasks


def _offline_task(entry: _Entry) -> Task:
    video, audio = entry.file("video_path"), entry.file("audio_path")
    result = entry.text("result_name", f"{video.stem}_{audio.stem}.mp4")
    return Task(entry.name, video, audio, entry.plain_name("result_name", result), entry.whole("bbox_shift"))


def _realtime_tasks(entry: _Entry) -> list[Task]:
    folder = entry.plain_name("avatar id", entry.name)
    clips = entry.values["audio_clips"]
    if not isinstance(clips, dict) or not clips:
        raise entry.error("audio_clips", "must map names to sound files")
    prepare = entry.values.get("preparation", False)
    if not isinstance(prepare, bool):
        raise entry.error("preparation", "must be true or false")
    video, shift = entry.file("video_path"), entry.whole("bbox_shift")
    return [
        Task(
            name=f"{entry.name}/{clip}",
            video=video,
            audio=entry.existing(f"audio_clips.{clip}", sound),
            output=folder / f"{entry.plain_name('audio_clips', str(clip))}.mp4",
            bbox_shift=shift,
            avatar=folder / "avatar",
            prepare=prepare and number == 0,
            reuses_avatar=not prepare,
        )
        for number, (clip, sound) in enumerate(clips.items())
    ]


@dataclass(frozen=True)
class _Entry:
    """One entry of a task file, read key by key with errors that name it."""

    path: Path
    name: str
    values: dict[str, Any]

    def error(self, key: str, problem: str) -> InputError:
        return InputError(f"{self.path}, {self.name}, {key}: {problem}")

    def file(self, key: str) -> Path:
        if key not in self.values:
            raise self.error(key, "is missing")
        return self.existing(key, self.values[key])

    def existing(self, key: str, value: Any) -> Path:
        for folder in (Path(), self.path.parent):
            if isinstance(value, str) and (folder / value).exists():
                return folder / value
        raise self.error(key, f"{value!r} does not exist (looked from here and from the task file's folder)")

    def text(self, key: str, default: str) -> str:
        return str(self.values.get(key) or default)

    def whole(self, key: str) -> int:
        value = self.values.get(key, 0)
        if not isinstance(value, int):
            raise self.error(key, f"{value!r} is not a whole number of pixels")
        return value

    def plain_name(self, key: str, value: str) -> Path:
        """A file name that cannot leave the results folder."""
        if value in ("", ".", "..") or Path(value).name != value or "\\" in value:
            raise self.error(key, f"{value!r} must be a plain name, without folders")
        return Path(value)
