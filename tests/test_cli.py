"""The command line as a user meets it: results, exit codes, JSON, and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musetalk.audio.source import AudioSource
from musetalk.cli import main
from musetalk.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(capsys):
    """Run one command; gives its exit code, what it printed, and what it complained about."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


@pytest.fixture
def models(tiny_models_dir):
    return ("--models", tiny_models_dir, "--device", "cpu")


def test_lipsync_writes_a_video_and_reports_it(run, models, clip, tmp_path):
    output = tmp_path / "out.mp4"
    code, out, err = run("lipsync", "--video", clip, "--audio", clip, "--output", output, *models)
    assert code == 0 and output.stat().st_size > 1000
    assert f"wrote {output}: 12 frames at 25 fps" in out and "bbox_shift" in out
    assert "lip sync" in err  # the progress bar


def test_json_is_one_object_on_stdout(run, models, clip, tmp_path):
    arguments = ("lipsync", "--video", clip, "--output", tmp_path / "out.mp4", *models, "--json", "--quiet")
    code, out, err = run(*arguments)
    report = json.loads(out)
    assert code == 0 and err == ""
    assert (report["frames"], report["fps"], report["width"], report["height"]) == (12, "25", 384, 320)
    code, out, err = run(*arguments)
    assert code == 6 and json.loads(out)["exit_code"] == 6 and "--overwrite" in json.loads(out)["error"]


def test_prepare_then_drive_twice(run, models, clip, speech, tmp_path):
    folder = tmp_path / "hopper"
    code, out, _ = run("prepare", "--video", clip, "--output", folder, "--bbox-shift", 3, *models)
    assert code == 0 and "12 frames, 12 with a face" in out
    for name, sound in (("one", speech), ("two", clip)):
        arguments = ("--avatar", folder, "--audio", sound, "--output", tmp_path / f"{name}.mp4", *models, "--quiet")
        assert run("lipsync", *arguments)[0] == 0
    code, out, _ = run("inspect", folder)
    assert code == 0 and "status: ok" in out and "'bbox_shift': 3" in out


def test_profile_options_beside_an_avatar_are_refused(run, models, clip, tmp_path):
    folder = tmp_path / "hopper"
    run("prepare", "--video", clip, "--output", folder, *models)
    arguments = ("--avatar", folder, "--output", tmp_path / "o.mp4", "--bbox-shift", 3, *models)
    code, _, err = run("lipsync", *arguments)
    assert code == 2 and "--bbox-shift" in err


def test_inspect_lists_weights(run, tiny_models_dir):
    code, out, _ = run("inspect", tiny_models_dir, "--json")
    kinds = {entry["kind"] for entry in json.loads(out)["files"]}
    assert code == 0 and {"unet", "vae", "audio_encoder", "face_parser"} <= kinds


@pytest.mark.parametrize(("face", "side"), [("largest", None), ("100,100", "left"), ("500,100", "right")])
def test_face_option_reaches_the_tracker(run, models, portrait, clip, tmp_path, face, side):
    picture = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    Image.fromarray(picture).save(tmp_path / "two.png")
    folder = tmp_path / "avatar"
    code, _, _ = run("prepare", "--video", tmp_path / "two.png", "--output", folder, "--face", face, *models)
    assert code == 0
    from musetalk.avatar_file import load_avatar

    centre = load_avatar(folder).track.boxes[0][[0, 2]].mean()
    if side:
        assert (centre > 384) == (side == "right")


def test_task_file_runs_every_task_and_reports_failures(run, models, clip, speech, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "blank.png")
    tasks = tmp_path / "test.yaml"
    tasks.write_text(
        f"task_0:\n  video_path: {clip}\n  audio_path: {clip}\n"
        f"task_1:\n  video_path: {tmp_path / 'blank.png'}\n  audio_path: {clip}\n"
        f"task_2:\n  video_path: {clip}\n  audio_path: {clip}\n  result_name: third.mp4\n"
    )
    results = tmp_path / "results"
    code, out, _ = run("lipsync", "--tasks", tasks, "--output", results, *models, "--json", "--quiet")
    report = json.loads(out)["tasks"]
    assert code == 4  # the exit code of the first failure: no face
    assert [entry.get("frames") for entry in report] == [12, None, 12]
    assert "no face" in report[1]["error"]
    assert sorted(path.name for path in results.iterdir()) == ["talk_talk.mp4", "third.mp4"]


def test_realtime_task_file_prepares_once_and_reuses(run, models, clip, tmp_path):
    tasks = tmp_path / "realtime.yaml"
    text = f"hopper:\n  preparation: {{}}\n  video_path: {clip}\n  audio_clips:\n    a: {clip}\n    b: {clip}\n"
    tasks.write_text(text.format("True"))
    results = tmp_path / "results"
    command = ("lipsync", "--tasks", tasks, "--output", results, *models, "--json", "--quiet")
    assert run(*command)[0] == 0
    made = (results / "hopper" / "avatar" / "avatar.json").stat().st_mtime_ns
    assert sorted(path.name for path in (results / "hopper").iterdir()) == ["a.mp4", "avatar", "b.mp4"]
    tasks.write_text(text.format("False"))
    assert run(*command, "--overwrite")[0] == 0
    assert (results / "hopper" / "avatar" / "avatar.json").stat().st_mtime_ns == made


def test_task_problems_are_found_before_any_work(run, models, clip, tmp_path):
    tasks = tmp_path / "test.yaml"
    tasks.write_text(f"a: {{video_path: {clip}, audio_path: {clip}}}\nb: {{video_path: {tasks}, audio_path: {clip}}}\n")
    results = tmp_path / "results"
    code, _, err = run("lipsync", "--tasks", tasks, "--output", results, *models)
    assert code == 2 and "test.yaml" in err and list(results.glob("*.mp4")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lipsync"],
        ["lipsync", "--video", "a.mp4", "--avatar", "b", "--output", "o.mp4"],
        ["lipsync", "--video", "a.mp4", "--output", "o.mp4", "--loop", "bounce"],
        ["lipsync", "--video", "a.mp4", "--output", "o.mp4", "--landmarks", "openpose"],
    ],
)
def test_wrong_usage_exits_with_two(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_exit_codes_are_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["lipsync", "--help"])
    assert "130 interrupted" in " ".join(capsys.readouterr().out.split())


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_leaves_nothing_behind(tiny_models_dir, clip, tmp_path):
    # Ten minutes of sound: far longer than the wait below.
    long_clip = tmp_path / "long.mkv"
    samples = np.random.default_rng(0).normal(0, 0.1, 16000 * 600).astype(np.float32)
    frame = np.asarray(Image.open(ROOT / "demo" / "astronaut.png").convert("RGB"))
    sound = AudioSource.from_array(samples, 16000)
    with VideoWriter(long_clip, 512, 512, Fraction(1), audio=sound, audio_duration=Fraction(600)) as writer:
        writer.write(frame[None])
    folder = tmp_path / "results"
    folder.mkdir()
    arguments = ["lipsync", "--video", ROOT / "demo" / "astronaut.png", "--audio", long_clip]
    arguments += ["--output", folder / "out.mp4", "--models", tiny_models_dir, "--device", "cpu"]
    job = subprocess.Popen(
        [sys.executable, "-m", "musetalk", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env=os.environ,
        # A suite run in the background of a shell hands an ignored SIGINT down to its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob(".*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(folder.glob(".*")), "the job did not start writing"
    time.sleep(0.5)
    job.send_signal(signal.SIGINT)
    _, complaint = job.communicate(timeout=30)
    assert job.returncode == 130 and b"interrupted" in complaint
    assert list(folder.iterdir()) == []
