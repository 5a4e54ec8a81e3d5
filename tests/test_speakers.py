"""Speaker maps and options: who speaks what, when; mistakes are named before any work."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from musetalk.errors import InputError
from musetalk.speakers import Speaker, check_speakers, parse_person, parse_speaker, parse_speaker_map, read_speaker_map


@pytest.fixture
def folder(tmp_path: Path, speech: Path) -> Path:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(speech.read_bytes())
    Image.new("RGB", (8, 6), (1, 2, 3)).save(tmp_path / "her.png")
    return tmp_path


def written(folder: Path, content: object) -> Path:
    path = folder / "map.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def part(person: object = 0, start: float = 0, end: float = 1, **more: object) -> dict:
    return {"person": person, "start": start, "end": end, **more}


def test_segments_of_one_dialogue(folder: Path) -> None:
    content = {"audio": "a.wav", "segments": [part(0, 0, 1.5), part(1, 1.5, 2), part(0, 2, 3)]}
    speakers = read_speaker_map(written(folder, content))
    assert [speaker.person for speaker in speakers] == [0, 1]
    assert speakers[0].spans == ((0, Fraction(3, 2)), (2, 3)) and speakers[1].spans == ((Fraction(3, 2), 2),)
    assert {speaker.audio for speaker in speakers} == {folder / "a.wav"}
    as_json = folder / "map.json"
    as_json.write_text(json.dumps(content))
    assert read_speaker_map(as_json) == speakers
    assert read_speaker_map(as_json, folder / "b.wav")[0].audio == folder / "b.wav"


def test_sounds_of_their_own_and_every_way_to_name_a_person(folder: Path) -> None:
    segments = [part("left", audio="a.wav"), part([4, 5], audio="b.wav"), part("her.png", 3, 4, audio="b.wav")]
    left, point, picture = read_speaker_map(written(folder, {"segments": segments}))
    assert (left.person, left.audio) == ("left", folder / "a.wav")
    assert (point.person, point.audio) == ((4, 5), folder / "b.wav")
    assert isinstance(picture.person, np.ndarray) and picture.person.shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("segments: [", "cannot read"),
        ("- 1", "no speaker map"),
        ({"segments": []}, "no speaker map"),
        ({"segments": [part()], "sound": "a.wav"}, "unknown key sound"),
        ({"segments": [part()]}, "segment 0: no sound"),
        ({"segments": [part(audio="missing.wav")]}, "segment 0: no file 'missing.wav'"),
        ({"audio": "a.wav", "segments": [part(), {"person": 1, "start": 0}]}, "segment 1: expected"),
        ({"audio": "a.wav", "segments": [part(colour=1)]}, "segment 0: expected"),
        ({"audio": "a.wav", "segments": [part(start=2)]}, "before it starts at 2 s"),
        ({"audio": "a.wav", "segments": [part(start="now")]}, "start is 'now'"),
        ({"audio": "a.wav", "segments": [part(end=float("nan"))]}, "end is nan"),
        ({"audio": "a.wav", "segments": [part(end=True)]}, "end is True"),
        ({"audio": "a.wav", "segments": [part(), part(start=0.5)]}, "person 0 overlap at 0.5 s"),
        ({"segments": [part(audio="a.wav"), part(audio="b.wav")]}, "person 0 would speak two sounds at once"),
        ({"audio": "a.wav", "segments": [part(person="nobody")]}, "'nobody' names nobody"),
        ({"audio": "a.wav", "segments": [part(person=None)]}, "person is None"),
        ({"audio": "a.wav", "segments": [part(person=["a", "b"])]}, "person is"),
        ({"audio": "a.wav", "segments": [part(person=[1, 2, 3])]}, "person is"),
        ({"audio": "a.wav", "segments": [part(person=[float("nan"), 2])]}, "person is"),
    ],
)
def test_mistakes_are_named(folder: Path, content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_speaker_map(written(folder, content))


def test_a_map_without_a_folder_opens_no_files(folder: Path) -> None:
    for person in (str(folder / "her.png"), "her.png"):
        with pytest.raises(InputError, match="person is"):
            parse_speaker_map(yaml.safe_dump({"segments": [part(person=person)]}), "a.wav")
    (speaker,) = parse_speaker_map(yaml.safe_dump({"segments": [part(person="left")]}), "a.wav")
    assert speaker == Speaker("left", "a.wav", ((0, 1),))


def test_options(folder: Path) -> None:
    assert parse_speaker("1=voice.wav") == Speaker(1, Path("voice.wav"))
    assert parse_speaker("10,20.5=a=b.wav") == Speaker((10, 20.5), Path("a=b.wav"))
    assert parse_person("right") == "right"
    assert parse_person(str(folder / "her.png")).shape == (6, 8, 3)


@pytest.mark.parametrize("text", ["1", "=a.wav", "1=", ""])
def test_what_is_no_speaker(text: str) -> None:
    with pytest.raises(InputError, match="WHO=AUDIO"):
        parse_speaker(text)


def test_one_person_cannot_say_two_things_at_once() -> None:
    first, second = ((0, 1),), ((1, 2),)
    check_speakers([Speaker(0, "a", first), Speaker(0, "b", second), Speaker(1, "b")])
    for speakers in ([Speaker(0, "a"), Speaker(0, "b", second)], [Speaker("left", "a"), Speaker("left", "b")]):
        with pytest.raises(InputError, match="two sounds at once"):
            check_speakers(speakers)
    with pytest.raises(InputError, match="at least one"):
        check_speakers([])
