"""Several people in one clip: each mouth driven by its own sound, everybody else as filmed, bit for bit."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from musetalk import FrameSource, Profile, Speaker, lipsync
from musetalk.audio.features import open_windows
from musetalk.audio.source import AudioSource
from musetalk.cli import main
from musetalk.errors import InputError
from musetalk.face.track import FaceTrack
from musetalk.faces import FaceSearch
from musetalk.preparation import Preparer, SpooledMaterial
from musetalk.render import Voice, render
from musetalk.schedule import Schedule

FRAMES = 12
FPS = Fraction(25)


def sound(seconds: float, hertz: float) -> AudioSource:
    time = np.arange(round(seconds * 16000)) / 16000
    return AudioSource.from_array((0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32), 16000)


@pytest.fixture(scope="module")
def dialogue(portrait: np.ndarray) -> FrameSource:
    """The astronaut on the left and Grace Hopper on the right, both moving a little: 768 x 320."""
    hopper = np.array(Image.open(Path(__file__).parent / "data" / "grace_hopper.jpg").convert("RGB"))
    right = cv2.resize(hopper[80:480, 16:496], (384, 320), interpolation=cv2.INTER_AREA)
    frames = [
        np.concatenate([np.roll(portrait, i % 3, axis=1), np.roll(right, i % 2, axis=0)], axis=1) for i in range(FRAMES)
    ]
    return FrameSource.from_array(np.stack(frames), FPS)


@pytest.fixture(scope="module")
def tracks(dialogue: FrameSource) -> dict[str, FaceTrack]:
    """The tracks of the persons on either side, looked for once."""
    words = ("left", "right")
    found = FaceSearch(dialogue, Profile()).several(words)
    assert [face.person for face in found] == [0, 1]
    return {word: face.track for word, face in zip(words, found, strict=True)}


@pytest.fixture(scope="module")
def spoken(mesh_models, dialogue: FrameSource, tracks: dict[str, FaceTrack]):
    """What ``lipsync`` sends to the encoder for speakers given by side."""

    def render_speakers(*speakers: Speaker, fade: float = 0.0) -> np.ndarray:
        voices = []
        for speaker in speakers:
            track = tracks[speaker.person]
            windows = open_windows(mesh_models, speaker.audio, FPS)
            material = SpooledMaterial(Preparer(mesh_models, track, Profile(), dialogue.size), keep=False)
            schedule = Schedule(speaker.spans, FPS, heard=len(windows), length=FRAMES, fade=fade)
            voices.append(Voice(track, material, windows, schedule))
        pieces: list[np.ndarray] = []
        render(mesh_models, dialogue, voices, FRAMES, lambda part: pieces.append(part.copy()))
        return np.concatenate(pieces)

    return render_speakers


def changed(output: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool ``[N]`` each: frames in which the left, and the right, half of the picture changed."""
    difference = output != frames
    middle = frames.shape[2] // 2
    return difference[:, :, :middle].any(axis=(1, 2, 3)), difference[:, :, middle:].any(axis=(1, 2, 3))


def test_each_person_speaks_as_if_alone(spoken) -> None:
    low, high = sound(0.5, 150), sound(0.5, 900)
    together = spoken(Speaker("left", low), Speaker("right", high))
    np.testing.assert_array_equal(together[:, :, :384], spoken(Speaker("left", low))[:, :, :384])
    np.testing.assert_array_equal(together[:, :, 384:], spoken(Speaker("right", high))[:, :, 384:])
    swapped = spoken(Speaker("left", high), Speaker("right", low))
    assert all(side.all() for side in changed(swapped, together))


def test_who_does_not_speak_stays_as_filmed(dialogue, spoken) -> None:
    left, right = changed(spoken(Speaker("right", sound(0.5, 200))), dialogue[:])
    assert not left.any() and right.all()


def test_segments_of_a_dialogue(dialogue, spoken) -> None:
    shared = sound(0.5, 200)
    output = spoken(
        Speaker("left", shared, ((Fraction(0), Fraction(4, 25)),)),
        Speaker("right", shared, ((Fraction(4, 25), Fraction(9, 25)),)),
    )
    left, right = changed(output, dialogue[:])
    assert np.flatnonzero(left).tolist() == list(range(4))
    assert np.flatnonzero(right).tolist() == list(range(4, 9))


def test_a_shorter_sound_leaves_its_speaker_as_filmed_afterwards(dialogue, spoken) -> None:
    left, right = changed(spoken(Speaker("left", sound(0.2, 200)), Speaker("right", sound(0.5, 300))), dialogue[:])
    assert np.flatnonzero(left).tolist() == list(range(5)) and right.all()


def test_a_fade_is_a_mixture(dialogue, spoken) -> None:
    speaker = Speaker("left", sound(0.5, 200), ((Fraction(2, 25), Fraction(10, 25)),))
    soft, hard = spoken(speaker, fade=0.12).astype(int), spoken(speaker).astype(int)
    source = dialogue[:].astype(int)
    np.testing.assert_array_equal(soft[5], hard[5])
    np.testing.assert_allclose(soft[2], source[2] + 0.25 * (hard[2] - source[2]), atol=1.5)
    np.testing.assert_array_equal(soft[1], source[1])


def test_file_in_file_out(mesh_models, dialogue, tmp_path) -> None:
    speakers = [Speaker(1, sound(0.4, 500)), Speaker(0, sound(1, 150))]
    report = lipsync(mesh_models, dialogue, None, tmp_path / "out.mp4", speakers=speakers)
    assert report.frames == 25 and [speaker.person for speaker in report.speakers] == [1, 0]
    assert all(speaker.passed == () and speaker.shift_range is not None for speaker in report.speakers)
    json.dumps(report.to_dict())
    heard = np.concatenate(list(AudioSource.open(report.output).blocks()), axis=1)[0]
    early, late = (np.abs(np.fft.rfft(part)) for part in (heard[:6400], heard[9600:16000]))
    for hertz, spectrum, there in ((150, early, True), (500, early, True), (150, late, True), (500, late, False)):
        assert (spectrum[round(hertz * 0.4)] > 0.1 * spectrum.max()) == there


@pytest.mark.parametrize(
    ("speakers", "message"),
    [
        ([], "at least one"),
        ([Speaker(0, "a"), Speaker(0, "b")], "two sounds at once"),
        ([Speaker(0, sound(0.4, 200)), Speaker("left", sound(0.4, 300))], "two sounds at once"),
        ([Speaker(7, sound(0.4, 200))], "7"),
        ([Speaker(0, sound(0.4, 200), ((Fraction(2), Fraction(3)),))], "the sound ends at 0.4 s"),
    ],
)
def test_impossible_casts_are_refused(mesh_models, dialogue, tmp_path, speakers, message) -> None:
    with pytest.raises(InputError, match=message):
        lipsync(mesh_models, dialogue, None, tmp_path / "out.mp4", speakers=speakers)
    assert list(tmp_path.iterdir()) == []


def test_speakers_exclude_what_they_say(mesh_models, dialogue, tmp_path) -> None:
    speakers = [Speaker(0, sound(0.4, 200))]
    for audio, select in ((sound(0.4, 200), "largest"), (None, "left")):
        with pytest.raises(InputError, match="speakers say who speaks what"):
            lipsync(mesh_models, dialogue, audio, tmp_path / "o.mp4", speakers=speakers, select=select)


@pytest.fixture(scope="module")
def folder(dialogue: FrameSource, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the dialogue, two sounds, a map and a reference picture."""
    folder = tmp_path_factory.mktemp("dialogue")
    (folder / "pictures").mkdir()
    for i, frame in enumerate(dialogue[:8]):
        Image.fromarray(frame).save(folder / "pictures" / f"{i}.png")
    Image.fromarray(dialogue[5][:, 384:]).save(folder / "her.png")
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(speech.read_bytes())
    segments = [{"person": 0, "start": 0, "end": 0.1}, {"person": "her.png", "start": 0.1, "end": 0.3}]
    (folder / "map.json").write_text(json.dumps({"audio": "a.wav", "segments": segments}))
    return folder


@pytest.mark.parametrize(
    ("options", "persons"),
    [
        (["--speaker", "0={}/a.wav", "--speaker", "1={}/b.wav"], [0, 1]),
        (["--speaker", "{}/her.png={}/a.wav"], [1]),
        (["--speaker-map", "{}/map.json"], [0, 1]),
        (["--face", "1", "--audio", "{}/a.wav"], [1]),
        (["--face", "500,100", "--audio", "{}/a.wav"], [None]),
    ],
)
def test_command_line(folder: Path, tiny_models_dir: Path, tmp_path: Path, capsys, options, persons) -> None:
    arguments = ["lipsync", "--video", f"{folder}/pictures", "--output", str(tmp_path / "out.mp4"), "--json", "--quiet"]
    arguments += ["--models", str(tiny_models_dir), "--device", "cpu", "--loop", "cut"]
    assert main([*arguments, *(option.replace("{}", str(folder)) for option in options)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [speaker["person"] for speaker in report["speakers"]] == persons and report["frames"] == 8
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio


def test_faces_lists_everybody(folder: Path, tmp_path: Path, capsys) -> None:
    sheet = tmp_path / "people.png"
    arguments = ["faces", "--video", f"{folder}/pictures", "--sheet", str(sheet), "--quiet"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (
        "person 0: seen in 8 of 8 frames, 8 can be redrawn" in printed and "person 1: bbox_shift is useful" in printed
    )
    assert Image.open(sheet).width == 2 * 208
    assert main([*arguments, "--json"]) == 6
    assert "--overwrite" in json.loads(capsys.readouterr().out)["error"]
    assert main([*arguments, "--json", "--overwrite"]) == 0
    assert len(json.loads(capsys.readouterr().out)["people"]) == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--speaker", "0=a.wav", "--audio", "b.wav"],
        ["--speaker", "0=a.wav", "--speaker-map", "m.json"],
        ["--speaker", "0"],
        ["--speaker-map", "missing.json"],
        ["--face", "nobody", "--audio", "a.wav"],
        ["--boxes", "b.json", "--landmarks", "dwpose"],
    ],
)
def test_options_that_contradict_are_refused(folder: Path, tmp_path: Path, capsys, monkeypatch, options) -> None:
    monkeypatch.chdir(folder)
    assert main(["lipsync", "--video", "pictures", "--output", str(tmp_path / "out.mp4"), *options]) == 2
    assert capsys.readouterr().err.startswith("musetalk: ")
