"""Hostile input to the whole job: one clear error each, and nothing left behind."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musetalk import FrameSource, lipsync, load_models
from musetalk.audio.source import AudioSource
from musetalk.cli import main
from musetalk.errors import InputError, ModelFileError, MuseTalkError, NoFaceError, OutputError


@pytest.fixture
def out(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "result.mp4"


def refused(models, video, audio, output, kind: type[MuseTalkError], message: str) -> None:
    with pytest.raises(kind, match=message):
        lipsync(models, video, audio, output)
    assert list(output.parent.iterdir()) == []


def test_truncated_video(mesh_models, clip, tmp_path, out):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    refused(mesh_models, cut, clip, out, InputError, "cut.mp4")


def test_sound_file_as_video(mesh_models, speech, clip, out):
    refused(mesh_models, speech, clip, out, InputError, "speech.wav")


def test_text_file_named_mp4(mesh_models, clip, tmp_path, out):
    fake = tmp_path / "fake.mp4"
    fake.write_text("not a video\n" * 100)
    refused(mesh_models, fake, clip, out, InputError, "fake.mp4")
    refused(mesh_models, clip, fake, out, InputError, "fake.mp4")


def test_missing_files(mesh_models, clip, tmp_path, out):
    refused(mesh_models, tmp_path / "nowhere.mp4", clip, out, InputError, "nowhere.mp4")
    refused(mesh_models, clip, tmp_path / "nowhere.wav", out, InputError, "nowhere.wav")


def test_empty_files_and_folders(mesh_models, clip, tmp_path, out):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "empty").mkdir()
    refused(mesh_models, tmp_path / "empty.mp4", clip, out, InputError, "empty.mp4")
    refused(mesh_models, tmp_path / "empty", clip, out, InputError, "empty")


def test_one_pixel_video(mesh_models, clip, out):
    pixel = FrameSource.from_array(np.zeros((3, 1, 1, 3), dtype=np.uint8))
    refused(mesh_models, pixel, clip, out, NoFaceError, "no face found")


def test_silent_video_without_audio(mesh_models, tmp_path, portrait_frames, out):
    from fractions import Fraction

    from musetalk.video.writer import VideoWriter

    with VideoWriter(tmp_path / "mute.mp4", 384, 320, Fraction(25)) as writer:
        writer.write(portrait_frames)
    refused(mesh_models, tmp_path / "mute.mp4", None, out, InputError, "has no sound")


def test_sound_of_no_length(mesh_models, clip, tmp_path, out):
    import wave

    with wave.open(str(tmp_path / "zero.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    refused(mesh_models, clip, tmp_path / "zero.wav", out, InputError, "zero.wav")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_sound_that_is_no_number(mesh_models, clip, out, bad):
    samples = np.zeros(16000, dtype=np.float32)
    samples[8000] = bad
    refused(mesh_models, clip, AudioSource.from_array(samples, 16000), out, InputError, r"0\.500 s")


def test_sound_of_a_twentieth_of_a_second_works(mesh_models, clip, out):
    sound = AudioSource.from_array(np.zeros(800, dtype=np.float32), 16000)
    assert lipsync(mesh_models, clip, sound, out).frames == 1


def test_an_8k_still_works_a_frame_at_a_time(mesh_models, portrait, tmp_path, out):
    still = Image.fromarray(portrait).resize((7680, 4320))
    still.save(tmp_path / "large.bmp")
    sound = AudioSource.from_array(np.zeros(1600, dtype=np.float32), 16000)
    report = lipsync(mesh_models, tmp_path / "large.bmp", sound, out, preset="ultrafast")
    assert (report.width, report.height, report.frames) == (7680, 4320, 2)


def test_a_picture_past_every_codec_is_refused(mesh_models, clip, out):
    wide = FrameSource.from_array
    with pytest.raises(InputError, match="16384"):
        wide(np.zeros((1, 2, 20000, 3), dtype=np.uint8))


def test_missing_weights_are_all_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"(?s)musetalkV15.*sd-vae.*whisper.*musetalk download"):
        load_models(tmp_path)


def test_missing_weights_on_the_command_line(clip, tmp_path, out, capsys):
    arguments = ["lipsync", "--video", clip, "--output", out, "--models", tmp_path / "nothing"]
    assert main([str(argument) for argument in arguments]) == 3
    assert "musetalk download" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []


def test_inputs_are_checked_before_weights_are_looked_for(clip, tmp_path, out, capsys):
    arguments = ["lipsync", "--video", tmp_path / "nowhere.mp4", "--output", out, "--models", tmp_path / "nothing"]
    assert main([str(argument) for argument in arguments]) == 2
    assert "nowhere.mp4" in capsys.readouterr().err


def test_missing_sound_is_found_before_weights_are_looked_for(tmp_path, portrait, out, capsys):
    Image.fromarray(portrait).save(tmp_path / "face.png")
    arguments = ["lipsync", "--video", tmp_path / "face.png", "--output", out, "--models", tmp_path / "nothing"]
    assert main([str(argument) for argument in arguments]) == 2
    assert "face.png has no sound" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing/result.mp4", "file.txt/result.mp4", "result.txt", "."])
def test_unusable_targets(mesh_models, clip, tmp_path, name):
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError):
        lipsync(mesh_models, clip, None, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_read_only_folder(mesh_models, clip, tmp_path, out):
    out.parent.chmod(0o500)
    try:
        probe = out.parent / "probe"
        try:
            probe.touch()
        except PermissionError:
            refused(mesh_models, clip, None, out, OutputError, "cannot write")
        else:  # root may write anywhere: then the job simply works
            probe.unlink()
            assert lipsync(mesh_models, clip, None, out).frames == 12
    finally:
        out.parent.chmod(0o700)


def test_damaged_picture_among_images(mesh_models, portrait, clip, tmp_path, out):
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(portrait).save(folder / "0.png")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:2000])
    refused(mesh_models, folder, clip, out, InputError, r"1\.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loop": "bounce"}, "loop"),
        ({"batch_size": 0}, "batch_size"),
        ({"codec": "no-such-codec"}, "no-such-codec"),
        ({"crf": 99}, "crf"),
        ({"fps": -1.0}, "fps"),
        ({"fps": math.nan}, "fps"),
        ({"boxes": [[10, 10, 5, 5]]}, "box"),
        ({"boxes": [[0, 0, 9, 9], [0, 0, 9, 9]]}, "12"),
        ({"boxes": [[500, 10, 600, 50]]}, "500"),
        ({"select": "tallest"}, "tallest"),
    ],
)
def test_bad_options(mesh_models, clip, out, options, message):
    with pytest.raises(InputError, match=message):
        lipsync(mesh_models, clip, None, out, **options)
    assert list(out.parent.iterdir()) == []


def test_a_disk_that_fills_up(mesh_models, clip, speech, tmp_path):
    """A folder on a full file system, where the machine lets us mount one."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT RUN: this machine does not let the test mount a small file system")
    try:
        with pytest.raises(OutputError, match="cannot write"):
            lipsync(mesh_models, clip, speech, small / "result.mp4", crf=0)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
