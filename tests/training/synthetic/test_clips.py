"""Clips with their truth: frames, files, and the measure of openings."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from musetalk.cli import main
from musetalk.errors import InputError, OutputError
from musetalk.face.tracking import track_faces
from musetalk.training.synthetic import clip_folder
from musetalk.training.synthetic.clip_folder import ClipOptions, cast, write_clips
from musetalk.training.synthetic.clips import Clip, make_clip
from musetalk.training.synthetic.drawn import draw_face
from musetalk.training.synthetic.espeak import Phoneme, Speech
from musetalk.training.synthetic.opening import OpeningProbe, measure_opening
from musetalk.training.synthetic.photos import photo_still, vary
from musetalk.training.synthetic.still import Still
from musetalk.training.synthetic.take import Take
from musetalk.training.synthetic.truth_file import TruthFile, read_truth, write_truth
from musetalk.video.frames import FrameSource

WORDS = ("", *"mamɪlupafiʃo", *"bitaæpnoʊme", "")


@pytest.fixture(scope="module")
def speech() -> Speech:
    """Two seconds, in which only the times of the phonemes count."""
    starts = np.linspace(0, 2, len(WORDS), endpoint=False)
    return Speech(
        np.zeros(32000, np.float32), tuple(Phoneme(float(at), ipa) for at, ipa in zip(starts, WORDS, strict=True))
    )


def _face(kind: str) -> Still | str:
    rng = np.random.default_rng(3)
    return {
        "hopper": lambda: "hopper",
        "varied": lambda: vary(photo_still("astronaut"), rng),
        "drawn": lambda: draw_face(rng),
    }[kind]()


@pytest.fixture(scope="module", params=["hopper", "varied", "drawn"])
def clip(request: pytest.FixtureRequest, speech: Speech) -> Clip:
    take = None if request.param == "hopper" else Take.random(np.random.default_rng(8))
    return make_clip(_face(request.param), speech, take)


# ---- frames and truth


def test_frames_and_truth_agree(clip: Clip) -> None:
    frames, truth = list(clip.talking()), clip.truth()
    assert len(frames) == len(clip) == len(truth) == 50
    assert frames[0].image.shape == (256, 256, 3) and frames[0].image.dtype == np.uint8
    assert np.allclose([frame.opening for frame in frames], truth.openings)
    assert truth.shut.any() and truth.openings[truth.shut].max() == 0
    assert truth.openings.max() > 10
    assert 0 < truth.spoken.start < truth.spoken.stop < 50
    assert {truth.visemes[0], truth.visemes[-1]} == {"silence"}


def test_source_rests_where_the_talker_does(clip: Clip) -> None:
    rest = next(clip.resting())
    found = next(clip.resting(as_found=True))
    assert rest.opening == 0 and np.isnan(found.opening)
    # Both are the same face at the same moment: nothing above the nose tells them apart.
    talking = next(clip.talking())
    assert np.array_equal(rest.image[:60], talking.image[:60])


def test_nothing_outside_the_box_changes(clip: Clip) -> None:
    x0, y0, x1, y1 = clip.scene.box
    picture = clip.scene.with_face(list(clip.talking())[20].image)
    changed = (picture != clip.scene.picture).any(axis=2)
    assert changed[y0:y1, x0:x1].any()
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_framed_face_is_found(speech: Speech) -> None:
    scene = make_clip(draw_face(np.random.default_rng(3)), speech).scene
    track = track_faces(scene.picture[None], still=True)
    assert track.valid[0]
    assert np.abs(track.boxes[0] - scene.box).max() < 45


def test_too_short_speech_is_refused() -> None:
    with pytest.raises(InputError, match="less than a frame"):
        make_clip("hopper", Speech(np.zeros(100, np.float32), (Phoneme(0.0, ""),)))


# ---- measuring


def test_openings_are_measured(clip: Clip) -> None:
    truth, probe = clip.truth(), OpeningProbe(clip.still, clip.take)
    pictures = np.stack([frame.image for frame in clip.talking()])
    spoiled = {
        "as filmed": (pictures, 0.997, 0.6),
        "blurred": (np.stack([cv2.GaussianBlur(picture, (0, 0), 3) for picture in pictures]), 0.994, 0.9),
        "brighter": (np.clip(pictures * 1.05 + 4, 0, 255).astype(np.uint8), 0.997, 0.9),
    }
    for name, (seen, least, error) in spoiled.items():
        found = probe.measure(seen, clip.times)
        assert np.corrcoef(found, truth.openings)[0, 1] > least, name
        assert np.sqrt(((found - truth.openings) ** 2).mean()) < error, name
        assert (found[truth.shut] < 0.05 * clip.still.tall).all(), name


def test_a_blend_of_mouths_is_between_them() -> None:
    clip = make_clip("hopper", Speech(np.zeros(16000, np.float32), (Phoneme(0.0, "a"), Phoneme(0.5, "m"))))
    pictures = np.stack([frame.image for frame in clip.talking()])
    truth = clip.truth().openings
    blend = ((pictures[5].astype(int) + pictures[20]) // 2).astype(np.uint8)
    found = measure_opening(blend[None], clip.still)
    assert truth[5] > 15 > 0 == truth[20]
    assert found.shape == (1,) and found.dtype == np.float32
    assert abs(found[0] - truth[5] / 2) < 2.5


def test_wrong_pictures_are_refused() -> None:
    still = photo_still("hopper")
    moving = Take.random(np.random.default_rng(0))
    pictures = np.zeros((2, 256, 256, 3), np.uint8)
    with pytest.raises(InputError, match="float32"):
        measure_opening(pictures.astype(np.float32), still)
    with pytest.raises(InputError, match="128"):
        measure_opening(pictures[:, :128], still)
    with pytest.raises(InputError, match="times"):
        measure_opening(pictures, still, moving)
    with pytest.raises(InputError, match="3 times"):
        measure_opening(pictures, still, moving, np.zeros(3))


# ---- files


@pytest.fixture(scope="module")
def known(speech: Speech) -> TruthFile:
    clip = make_clip(_face("varied"), speech, Take.random(np.random.default_rng(8)))
    size = clip.scene.picture.shape[1], clip.scene.picture.shape[0]
    return TruthFile(
        clip.truth(), clip.fps, size, clip.scene.box, clip.still, clip.take, "en-us", ("Où?",), {"seed": 4}
    )


def test_truth_survives_its_file(known: TruthFile, tmp_path: Path) -> None:
    write_truth(tmp_path, known)
    again = read_truth(tmp_path)
    assert np.allclose(again.truth.openings, known.truth.openings, atol=1e-4)
    assert np.allclose(again.truth.poses, known.truth.poses, atol=1e-4)
    assert np.array_equal(again.truth.shut, known.truth.shut) and again.truth.visemes == known.truth.visemes
    assert (again.fps, again.size, again.box) == (known.fps, known.size, known.box)
    assert (again.voice, again.lines) == ("en-us", ("Où?",))
    assert again.still.rest == known.still.rest and again.still.lip == known.still.lip
    image = known.take.apply(known.still.image, 0.3)
    assert np.array_equal(again.take.apply(again.still.image, 0.3), image)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "other"}, "no truth"),
        ({"version": 2}, "version 2"),
        ({"frames": 49}, "49 frames"),
        ({"box": [0, 0, 900, 10]}, "impossible"),
        ({"shut": None}, "cannot be read"),
        ({"shut": [2] * 50}, "true or false"),
        ({"opening": [float("nan")] * 50}, "not finite"),
        ({"width": [1e300] * 50}, "not finite"),
        ({"opening": ["wide"] * 50}, "cannot be read"),
        ({"visemes": ["smirk"] * 50}, "visemes"),
        ({"fps": "25/0"}, "ZeroDivisionError"),
        ({"size": [float("inf"), 384]}, "OverflowError"),
        ({"frames": []}, "cannot be read"),
    ],
)
def test_damaged_truth_is_refused(known: TruthFile, tmp_path: Path, change: dict[str, object], reason: str) -> None:
    write_truth(tmp_path, known)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(InputError, match=reason):
        read_truth(path)


def test_truth_without_its_face_is_refused(known: TruthFile, tmp_path: Path) -> None:
    write_truth(tmp_path, known)
    (tmp_path / "face.npz").unlink()
    with pytest.raises(InputError, match=r"face\.npz"):
        read_truth(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"still.lips": np.zeros((4, 255), np.float32)},
        {"still.lips": np.full((4, 256), np.nan, np.float32)},
        {"still.image": np.zeros((256, 256, 3), np.float32)},
        {"still.picture": np.zeros((256, 256), np.uint8)},
        {"still.half": np.float64(0)},
        {"still.centre": np.float64(1e9)},
        {"still.nose": np.array("up")},
        {"still.heights": np.ones(3)},
        {"still.rest": np.ones(5)},
        {"still.teeth": np.float64(200)},
        {"take.motion": np.zeros((4, 2, 3))},
        {"take.motion": np.full((5, 2, 3), np.inf)},
        {"take.levels": np.zeros((255, 3), np.uint8)},
        {"take.glow": np.zeros((256, 256), np.float32)},
        {"take.mirror": np.float64(1)},
        {"still.jaw": np.array([{}], object)},
        {"still.chin": None},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_face_of_another_shape_is_refused(
    known: TruthFile, tmp_path: Path, change: dict[str, np.ndarray | None]
) -> None:
    write_truth(tmp_path, known)
    path = tmp_path / "face.npz"
    with np.load(path) as arrays:
        kept = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    np.savez(path, **kept)
    with pytest.raises(InputError, match=r"face\.npz .*synthesize the clip again"):
        read_truth(tmp_path)


def test_a_face_with_broken_bytes_is_refused(known: TruthFile, tmp_path: Path) -> None:
    write_truth(tmp_path, known)
    path = tmp_path / "face.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    # Within the first array's data, so that no copy of the file is whole by chance.
    broken = [bytes((*whole[:at], whole[at] ^ 255, *whole[at + 1 :])) for at in rng.integers(200, 20000, 6)]
    for damaged in (b"", b"PK", whole[: len(whole) // 2], whole[:-40], *broken):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"face\.npz"):
            read_truth(tmp_path)


@pytest.mark.usefixtures("espeak")
def test_the_face_does_not_depend_on_what_is_said() -> None:
    short, long = (cast(1, ClipOptions(seconds=seconds, faces="drawn"))[0] for seconds in (1, 3))
    assert np.array_equal(short.still.image, long.still.image)
    assert np.array_equal(short.take.motion, long.take.motion) and short.take.grain == long.take.grain
    others = [cast(1, ClipOptions(1, seed, "drawn"))[0] for seed in (1, 2)]
    assert not np.array_equal(others[0].still.image, others[1].still.image)


@pytest.mark.usefixtures("espeak")
def test_clips_are_written_whole_and_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "clips"
    command = ["synthesize", "--out", str(out), "--seconds", "1", "--faces", "drawn", "--quiet", "--json"]

    def cancel(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(clip_folder, "write_truth", cancel)
        assert main([*command, "--clips", "1"]) == 130
    assert [path.name for path in out.iterdir()] == ["clips.json"]

    assert main([*command, "--clips", "1"]) == 0
    first = (out / "clip-0000" / "truth.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*command, "--clips", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == ["clip-0001"]
    assert (out / "clip-0000" / "truth.json").stat().st_mtime_ns == first

    clip = out / "clip-0001"
    known = read_truth(clip)
    for name in ("talking.mp4", "source.mp4"):
        with FrameSource.open(clip / name) as frames:
            assert (len(frames), frames.fps, frames.size) == (len(known.truth), known.fps, known.size)
    assert main([*command, "--clips", "2", "--seed", "5"]) == 2


def test_foreign_folders_and_impossible_wishes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear", "utf-8")
    with pytest.raises(OutputError, match="something else"):
        write_clips(tmp_path, 1)
    with pytest.raises(InputError, match="ask for 1"):
        write_clips(tmp_path / "new", 0)
    with pytest.raises(InputError, match="choose 1 to 600"):
        ClipOptions(seconds=0)
    with pytest.raises(InputError, match="cats"):
        ClipOptions(faces="cats")  # type: ignore[arg-type]
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match="choose 0 to 4294967295"):
            ClipOptions(seed=seed)
