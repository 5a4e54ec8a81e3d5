"""Upstream's YAML task files."""

from pathlib import Path

import pytest

from musetalk.errors import InputError
from musetalk.tasks import read_tasks


@pytest.fixture
def folder(tmp_path):
    for name in ("man.mp4", "woman.mp4", "eng.wav", "sun.wav"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "tasks.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_offline_tasks(folder):
    path = write(
        folder,
        "task_0:\n  video_path: man.mp4\n  audio_path: eng.wav\n  bbox_shift: -7\n"
        "task_1:\n  video_path: woman.mp4\n  audio_path: sun.wav\n  result_name: hello.mp4\n",
    )
    first, second = read_tasks(path)
    assert (first.output, first.bbox_shift) == (Path("man_eng.mp4"), -7)
    assert first.video == folder / "man.mp4" and first.audio == folder / "eng.wav"
    # A result_name belongs to its own task only.
    assert second.output == Path("hello.mp4") and second.bbox_shift == 0


def test_realtime_tasks_prepare_once(folder):
    path = write(
        folder,
        "avator_1:\n  preparation: True\n  bbox_shift: 5\n  video_path: man.mp4\n"
        "  audio_clips:\n    audio_0: eng.wav\n    audio_1: sun.wav\n",
    )
    first, second = read_tasks(path)
    assert first.output == Path("avator_1/audio_0.mp4") and second.output == Path("avator_1/audio_1.mp4")
    assert first.avatar == second.avatar == Path("avator_1/avatar")
    assert (first.prepare, second.prepare) == (True, False)
    assert not first.reuses_avatar and not second.reuses_avatar


def test_realtime_without_preparation_needs_the_avatar(folder):
    path = write(folder, "a:\n  preparation: False\n  video_path: man.mp4\n  audio_clips:\n    one: eng.wav\n")
    (task,) = read_tasks(path)
    assert task.reuses_avatar and not task.prepare


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no task file"),
        ("- a\n- b\n", "no task file"),
        ("a: {video_path: man.mp4}\n", "a, audio_path: is missing"),
        ("a: {video_path: nowhere.mp4, audio_path: eng.wav}\n", "'nowhere.mp4' does not exist"),
        ("a: {video_path: man.mp4, audio_path: eng.wav, bbox_shift: much}\n", "bbox_shift: 'much'"),
        ("a: {video_path: man.mp4, audio_path: eng.wav, result_name: ../x.mp4}\n", "plain name"),
        ("../a: {video_path: man.mp4, audio_clips: {one: eng.wav}}\n", "plain name"),
        ("a: {video_path: man.mp4, audio_clips: {..: eng.wav}}\n", "plain name"),
        ("a: {video_path: man.mp4, audio_clips: []}\n", "audio_clips"),
        ("a: {video_path: man.mp4, preparation: perhaps, audio_clips: {one: eng.wav}}\n", "true or false"),
        ("a: [\n", "cannot read"),
        ("a: !!python/object/apply:os.getcwd []\n", "cannot read"),
        (
            "a: {video_path: man.mp4, audio_path: eng.wav}\nb: {video_path: man.mp4, audio_path: eng.wav}\n",
            "two tasks write man_eng.mp4",
        ),
    ],
)
def test_bad_task_files_name_the_place(folder, text, message):
    with pytest.raises(InputError, match=message):
        read_tasks(write(folder, text))


def test_binary_task_file_is_refused(folder):
    path = folder / "tasks.yaml"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot read"):
        read_tasks(path)
