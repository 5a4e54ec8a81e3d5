"""Videos to a training set, and a training set to samples."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
from PIL import Image

from musetalk.errors import InputError, OutputError
from musetalk.face.published import open_landmarks
from musetalk.training.build import BuildOptions, build_dataset
from musetalk.training.cli_data import add_train_data
from musetalk.training.clip_file import Clip, read_pictures
from musetalk.training.data_report import DataReport
from musetalk.training.dataset_index import DatasetIndex, Shard, Split
from musetalk.training.journal import Journal
from musetalk.training.losses.mouth import mouth_rectangle
from musetalk.training.sampling import in_box
from musetalk.training.segments import SHORT, Span, choose_spans, surroundings
from musetalk.training.shards import read_shard
from musetalk.training.shots import watch
from musetalk.training.video_list import Video, read_validation_list, split_videos
from musetalk.video.frames import FrameSource

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = BuildOptions(min_face=100, shard_bytes=500_000, validation_list=("gap",))
_SAME_WITH_TWO_WORKERS = """
import sys
from musetalk.training.build import BuildOptions, build_dataset
options = BuildOptions(min_face=100, shard_bytes=500_000, validation_list=("gap",), workers=2)
build_dataset(sys.argv[1], sys.argv[2], options)
"""


@pytest.fixture(scope="module")
def clips() -> ModuleType:
    """clips.py beside this file."""
    spec = spec_from_file_location("training_clips", Path(__file__).with_name("clips.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def talkers(clips: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos, good and bad."""
    folder = tmp_path_factory.mktemp("talkers")
    hopper, astronaut = clips.hopper(), clips.astronaut()
    thirty = clips.write_video(folder / "thirty.mp4", lambda t: hopper, 2.4, 30)
    clips.write_video(folder / "film" / "cut.mov", lambda t: hopper if t < 2.2 else astronaut, 4.4, 24)
    clips.write_video(folder / "gap.mp4", lambda t: None if 2.2 <= t < 2.8 else hopper, 5.0)
    clips.write_video(folder / "nobody.mp4", lambda t: None, 0.4)
    clips.write_video(folder / "mute.mp4", lambda t: hopper, 0.4, sound=False)
    shutil.copy(thirty, folder / "film" / "thirty-again.mp4")
    (folder / "broken.mp4").write_bytes(thirty.read_bytes()[:-20_000])
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def built(talkers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataReport]:
    """The set made of them in one go."""
    out = tmp_path_factory.mktemp("built") / "set"
    return out, build_dataset(talkers, out, OPTIONS)


def clips_of(folder: Path) -> dict[str, Clip]:
    return {
        key: Clip.parse(members)
        for path in sorted((folder / "shards").glob("*.tar"))
        for key, members in read_shard(path)
    }


# What becomes of the videos


def test_the_report_accounts_for_every_video(built: tuple[Path, DataReport]) -> None:
    out, report = built
    assert report.videos == 4 and report.clips == {"train": 3, "val": 2}
    assert set(report.failures) == {"broken.mp4", "mute.mp4"}
    assert "cut short" in report.failures["broken.mp4"] and "no sound" in report.failures["mute.mp4"]
    assert report.without_clips == ("nobody.mp4",)
    assert report.copies in [("thirty.mp4",), ("film/thirty-again.mp4",)]
    # 15 black frames, and the ten in which there is nobody; two of the gap may be given to its neighbours.
    assert report.seconds_dropped["no face"] == pytest.approx(25 / 25, abs=0.1)
    assert sum(report.seconds_kept.values()) + sum(report.seconds_dropped.values()) == pytest.approx(12.2, abs=0.01)
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    assert any("broken.mp4 cannot be used" in line for line in report.lines())


def test_faceless_frames_and_cuts_end_a_clip(built: tuple[Path, DataReport]) -> None:
    out, _ = built
    spans: dict[str, list[tuple[int, int]]] = {}
    for path in sorted((out / "shards").glob("*.tar")):
        for _, members in read_shard(path):
            about = json.loads(members["json"])
            spans.setdefault(about["source"], []).append((about["start"], about["start"] + about["frames"]))
    # The film's frame 53, at 2.208 s, is the first after its cut, and is shown from frame 56, at 2.24 s, on.
    assert spans["film/cut.mov"] == [(0, 56), (56, 110)]
    (first, until), (again, last) = spans["gap.mp4"]
    assert (first, last) == (0, 125) and until == pytest.approx(55, abs=2) and again == pytest.approx(70, abs=2)


def test_footage_of_any_rate_keeps_its_time(built: tuple[Path, DataReport], clips: ModuleType) -> None:
    out, _ = built
    for path in sorted((out / "shards").glob("train-*.tar")):
        for key, members in read_shard(path):
            clip, about = Clip.parse(members), json.loads(members["json"])
            seconds = (about["start"] + np.arange(len(clip))) / 25
            nose = clip.landmarks[:, 27:36].mean(axis=1)[:, 0] + about["crop"][0]
            slope = np.polyfit(seconds, nose, 1)[0]
            assert slope == pytest.approx(clips.SPEED, abs=1.0), key
            # What is seen and what is heard agree with the time, and so with each other.
            heard = np.abs(clip.sound).reshape(-1, 640).max(axis=1) / 0.4
            middle = np.array([clips.opening(float(t) + 0.02) for t in seconds])
            assert np.abs(heard - middle).mean() < 0.1, key
            seen = clip.landmarks[:, 66, 1] - clip.landmarks[:, 62, 1]
            assert np.corrcoef(seen, [clips.opening(float(t)) for t in seconds])[0, 1] > 0.7, key


def test_a_clip_shows_its_face_with_room_around_it(built: tuple[Path, DataReport]) -> None:
    for clip in clips_of(built[0]).values():
        width, height = clip.size
        x0, y0, x1, y1 = clip.boxes.T
        assert (clip.landmarks.min(axis=1) >= clip.boxes[:, :2]).all() and (x1 - x0 > 100).all()
        assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= width).all() and (y1 + 20 <= height).all()
        ((number, picture),) = read_pictures(clip.video, [len(clip) - 1])
        assert number == len(clip) - 1 and picture.shape == (height, width, 3)


def test_a_source_is_in_one_set_only(built: tuple[Path, DataReport]) -> None:
    index = DatasetIndex.load(built[0])
    sources = [{clip.source for shard in shards for clip in shard.clips} for shards in (index.train, index.val)]
    assert sources[1] == {"gap.mp4"} and sources[0].isdisjoint(sources[1])


def test_a_killed_run_goes_on_to_the_same_set(talkers: Path, built: tuple[Path, DataReport], tmp_path: Path) -> None:
    out = tmp_path / "set"
    command = [sys.executable, "-c", _SAME_WITH_TWO_WORKERS, str(talkers), str(out)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not any("video.json" in names for _, _, names in os.walk(out / "prepared")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "workers outlived the process that started them"
    assert not (out / "dataset.json").exists()

    # As if the kill had cut the journal short, and left a shard that it does not name.
    with (out / "journal.jsonl").open("a") as file:
        file.write('{"shard": {"na')
    (out / "shards" / "train-000007.tar").write_bytes(b"half")
    report = build_dataset(talkers, out, OPTIONS)
    assert {**report.to_dict(), "out": ""} == {**built[1].to_dict(), "out": ""}
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in built[0].iterdir())
    theirs, ours = (sorted((folder / "shards").iterdir()) for folder in (built[0], out))
    assert [path.name for path in theirs] == [path.name for path in ours]
    assert [path.read_bytes() for path in theirs] == [path.read_bytes() for path in ours]


def test_a_finished_set_takes_new_videos_and_nothing_else(
    talkers: Path, built: tuple[Path, DataReport], clips: ModuleType, tmp_path: Path
) -> None:
    out, more = tmp_path / "set", tmp_path / "more"
    shutil.copytree(built[0], out)
    clips.write_video(more / "new.mp4", lambda t: clips.astronaut(), 2.0)
    report = build_dataset(more, out, BuildOptions(min_face=100, validation=0))
    before, after = DatasetIndex.load(built[0]), DatasetIndex.load(out)
    assert after.val == before.val and after.train[: len(before.train)] == before.train
    assert [clip.source for shard in after.train[len(before.train) :] for clip in shard.clips] == ["new.mp4"]
    assert report.videos == built[1].videos + 1
    with pytest.raises(InputError, match=r"min_face 100 \(now 150\)"):
        build_dataset(more, out, BuildOptions(validation=0))


@pytest.mark.parametrize("name", ["gap.mp4", "renamed.mp4"])
def test_a_video_that_a_kill_left_between_two_shards_stays_in_its_set(
    talkers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "set"
    videos.mkdir()
    shutil.copy(talkers / "gap.mp4", videos)

    class Killed(BaseException):
        pass

    def die_after(journal: Journal, split: Split, shard: Shard) -> None:
        add_shard(journal, split, shard)
        raise Killed

    add_shard = Journal.add_shard
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Journal, "add_shard", die_after)
        build_dataset(videos, out, replace(OPTIONS, shard_bytes=1))  # a shard for each of its two clips
    (videos / "gap.mp4").rename(videos / name)
    report = build_dataset(videos, out, replace(OPTIONS, shard_bytes=1, validation=0, validation_list=None))
    assert report.clips == {"train": 0, "val": 2}
    assert {clip.source for shard in DatasetIndex.load(out).val for clip in shard.clips} == {"gap.mp4"}


# What is refused before any work


def test_hopeless_requests_are_refused_at_once(talkers: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, message in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "no video")):
        with pytest.raises(InputError, match=message):
            build_dataset(source, tmp_path / "out")
    with pytest.raises(InputError, match="source folder itself"):
        build_dataset(talkers, talkers)
    with pytest.raises(InputError, match="names nosuch"):
        build_dataset(talkers, tmp_path / "out", BuildOptions(validation_list=["nosuch"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        build_dataset(talkers, tmp_path / "file" / "out")
    (tmp_path / "mine" / "shards").mkdir(parents=True)
    (tmp_path / "mine" / "shards" / "train-000000.tar").write_text("precious")
    with pytest.raises(OutputError, match="no data set of ours"):
        build_dataset(talkers, tmp_path / "mine")
    assert (tmp_path / "mine" / "shards" / "train-000000.tar").read_text() == "precious"
    for wrong in ({"clip_seconds": 31}, {"workers": 0}, {"validation": 1.0}, {"landmarks": "dlib"}, {"min_face": 0}):
        with pytest.raises(InputError):
            BuildOptions(**wrong)


def test_a_full_disk_and_a_second_process_are_refused(
    talkers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("musetalk.training.build.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="has room for"):
        build_dataset(talkers, tmp_path / "set", OPTIONS)
    with FileLock(tmp_path / "set" / ".lock"), pytest.raises(OutputError, match="another process"):
        build_dataset(talkers, tmp_path / "set", OPTIONS)


def test_the_command_gives_its_report_and_an_exit_code(
    clips: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()

    def add_command(subparsers, name: str, run, help_text: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = subparsers.add_parser(name, help=help_text)
        command.add_argument("--json", action="store_true")
        command.add_argument("--quiet", action="store_true")
        command.set_defaults(run=run)
        return command

    add_train_data(parser.add_subparsers(), add_command)
    clips.write_video(tmp_path / "videos" / "nobody.mp4", lambda t: None, 0.2)
    args = parser.parse_args(["train-data", str(tmp_path / "videos"), "--out", str(tmp_path / "set"), "--quiet"])
    result, code = args.run(args)
    assert code == InputError.exit_code and result["videos"] == 1 and result["clips"] == {"train": 0, "val": 0}
    assert "no clip from nobody.mp4" in capsys.readouterr().out


# What is seen of a face


def test_a_mouth_below_the_picture_is_a_fault() -> None:
    with Image.open(ROOT / "tests" / "data" / "grace_hopper.jpg") as image:
        hopper = np.asarray(image.convert("RGB"))
    faults: dict[int, str] = {}
    for shift in (200, 300, 320, 340, 360):
        below = np.zeros_like(hopper)
        below[shift:] = hopper[:-shift]
        seen = watch(FrameSource.from_array(np.stack([below] * 3)), open_landmarks("facemesh", Path("models")))
        (faults[shift],) = set(seen.faults)
        if not faults[shift]:
            x0, y0, x1, y1 = mouth_rectangle(in_box(seen.landmarks, seen.boxes)).T
            assert (x1 - x0 > 50).all() and (y1 - y0 > 25).all()
    assert not faults[200]
    assert faults[340] == "mouth outside the picture"


# Which stretches become clips, and which videos validate


def test_runs_end_at_faults_and_cuts_and_long_ones_are_parted_equally() -> None:
    faults = ["", *["no face"] * 2, *[""] * 60, "turned", *[""] * 49, *[""] * 1600]
    widths = np.full(len(faults), 200)
    widths[3 + 60 + 1 + 49] = 90  # the first frame of the long run
    kept, dropped = choose_spans(faults, [0, 113], widths, longest=750, min_face=100)
    assert kept == [Span(3, 63), Span(646, 1179), Span(1179, 1713)]
    assert dropped == {"no face": 2, "turned": 1, SHORT: 1 + 49, "face under 100 px wide": 533}
    assert sum(map(len, kept)) + sum(dropped.values()) == len(faults)


def test_surroundings_are_even_and_within_the_picture() -> None:
    boxes = np.array([[301, 203, 500, 402], [351, 250, 551, 450]])
    assert surroundings(boxes, (1921, 1081)) == (236, 138, 614, 514)
    assert surroundings(boxes, (555, 455)) == (236, 138, 554, 454)


def test_validation_videos_are_told_by_their_names() -> None:
    videos = [Video(Path(f"{i}.mp4"), f"{i}.mp4", 1, 1) for i in range(400)]
    split = split_videos(videos, 0.1, None, {})
    assert split == split_videos(videos[::-1], 0.1, None, {})
    assert Counter(split.values())["val"] == pytest.approx(40, abs=15)
    assert split_videos(videos[:200], 0.1, None, {}).items() <= split.items()
    assert "val" not in split_videos(videos, 0, None, {}).values()
    # A small folder has one too, and a video stays in the set it was put in.
    assert list(split_videos(videos[:3], 1e-9, None, {}).values()).count("val") == 1
    assert split_videos(videos[:3], 0.0, None, {"1.mp4": "val"})["1.mp4"] == "val"


def test_validation_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# HDTF\n\n  0\n1.mp4\n")
    assert read_validation_list(tmp_path / "list.txt") == ["0", "1.mp4"]
    for path in (tmp_path / "none.txt", tmp_path / "empty.txt"):
        (tmp_path / "empty.txt").write_text("#\n")
        with pytest.raises(InputError):
            read_validation_list(path)


def test_a_damaged_journal_is_not_guessed_at(tmp_path: Path) -> None:
    Journal.open(tmp_path, {"min_face": 1})
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match="is damaged"):
        Journal.open(tmp_path, {"min_face": 1})
