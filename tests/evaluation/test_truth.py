"""Clips measured against the truth they were made from."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from musetalk import included
from musetalk.cli import main
from musetalk.errors import InputError
from musetalk.evaluation.figures import figures
from musetalk.evaluation.measure import evaluate
from musetalk.evaluation.truth import TruthScores, compare_with_truth, open_truth, score_openings
from musetalk.training.synthetic.clips import Clip, Truth, make_clip
from musetalk.training.synthetic.drawn import draw_face
from musetalk.training.synthetic.espeak import Phoneme, Speech
from musetalk.training.synthetic.truth_file import TruthFile, write_truth
from musetalk.video.frames import FrameSource
from musetalk.video.writer import VideoWriter

FPS = Fraction(25)
SECONDS = 1.2
SAID = ("mamɪlupafiʃobitae", "otiʃameluvinabuʃæt")


def _clip(said: str) -> Clip:
    sounds = ["", *said, ""]
    starts = np.linspace(0, SECONDS, len(sounds), endpoint=False)
    phonemes = tuple(Phoneme(float(at), ipa) for at, ipa in zip(starts, sounds, strict=True))
    return make_clip(draw_face(np.random.default_rng(3)), Speech(np.zeros(int(SECONDS * 16000), np.float32), phonemes))


def _pictures(clip: Clip, talking: bool) -> np.ndarray:
    frames = clip.talking() if talking else clip.resting()
    return np.stack([clip.scene.with_face(frame.image) for frame in frames])


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [_clip(said) for said in SAID]


@pytest.fixture(scope="module")
def talking(clips: list[Clip]) -> list[np.ndarray]:
    """What both clips show."""
    return [_pictures(clip, talking=True) for clip in clips]


@pytest.fixture(scope="module")
def folder(clips: list[Clip], talking: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, of which the first has its videos."""
    out = tmp_path_factory.mktemp("clips")
    for index, clip in enumerate(clips):
        place = out / f"clip-{index}"
        place.mkdir()
        size = clip.scene.picture.shape[1], clip.scene.picture.shape[0]
        known = TruthFile(clip.truth(), FPS, size, clip.scene.box, clip.still, clip.take, "none", (), {})
        write_truth(place, known)
        if index:
            continue
        for name, pictures in (("talking.mp4", talking[0]), ("source.mp4", _pictures(clip, talking=False))):
            with VideoWriter(place / name, *size, FPS) as writer:
                writer.write(pictures)
    return out / "clip-0"


def _measure(pictures: np.ndarray, folder: Path, **options: object) -> tuple[TruthScores, dict[str, str]]:
    missing: dict[str, str] = {}
    video = FrameSource.from_array(pictures, FPS)
    return compare_with_truth(video, open_truth(folder, video), missing=missing, **options), missing


@pytest.fixture(scope="module")
def gone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first clip without its videos, and without others beside it."""
    place = tmp_path_factory.mktemp("gone") / "clip-0"
    place.mkdir()
    for name in ("truth.json", "face.npz"):
        shutil.copy(folder / name, place)
    return place


def test_the_true_clip_is_near_perfect_and_an_autoencoder_has_its_own_ceiling(
    talking: list[np.ndarray], folder: Path
) -> None:
    def average(crops: np.ndarray) -> np.ndarray:
        return np.repeat(crops.mean(axis=0, keepdims=True), len(crops), axis=0).astype(np.uint8)

    scores, missing = _measure(talking[0], folder, vae=average)
    opening, ceiling = scores.opening, scores.ceiling
    assert opening.correlation is not None and opening.correlation > 0.995
    assert opening.other_correlation is not None and abs(opening.other_correlation) < 0.5
    assert opening.others == 1
    assert opening.shut_closed == 1 and opening.other_closed is not None and opening.other_closed < 0.3
    assert ceiling is not None and ceiling.correlation is not None and ceiling.correlation > 0.99
    assert scores.mouth is not None and scores.mouth.psnr is not None and scores.mouth.psnr > 35
    assert scores.vae is not None and scores.vae.rmse > 3 * ceiling.rmse
    assert scores.vae_mouth is not None and "truth.vae" not in missing
    assert scores.frames == scores.truth_frames == 30 and "truth.frames" not in missing


def test_lip_sync_of_the_source_touches_nothing_else(
    clips: list[Clip], talking: list[np.ndarray], folder: Path
) -> None:
    with FrameSource.open(folder / "source.mp4") as source:
        pictures = source[:].copy()
    still, _ = _measure(pictures, folder)
    assert still.outside is not None and still.outside.identical
    assert still.opening.correlation is None or abs(still.opening.correlation) < 0.5
    assert still.opening.shut_closed == still.opening.other_closed == 1

    x0, y0, x1, y1 = clips[0].scene.box
    middle = (y0 + y1) // 2
    pictures[:, middle:y1, x0:x1] = talking[0][:, middle:y1, x0:x1]
    pictures[3, 0, 0] ^= 8
    synced, _ = _measure(pictures, folder)
    assert synced.outside is not None and synced.outside.changed_pixels == 1
    assert synced.opening.correlation is not None and synced.opening.correlation > 0.99
    assert synced.mouth is not None and still.mouth is not None
    assert synced.mouth.psnr > still.mouth.psnr + 10  # type: ignore[operator]


def test_another_clips_mouth_does_not_follow_this_truth(talking: list[np.ndarray], folder: Path) -> None:
    scores, missing = _measure(talking[1][:29], folder)
    opening = scores.opening
    assert (scores.frames, scores.truth_frames) == (29, 30) and "truth.frames" not in missing, "rounded off"
    assert scores.vae is None and "--vae" in missing["truth.vae"]
    assert opening.correlation is not None and abs(opening.correlation) < 0.5
    assert opening.other_correlation is not None and opening.other_correlation > 0.99
    assert opening.shut_closed is not None and opening.shut_closed < 0.8


def test_silence_at_the_ends_does_not_count() -> None:
    truth = Truth(
        openings=np.r_[np.zeros(40), np.tile([4.0, 8.0], 15), np.zeros(40)].astype(np.float32),
        widths=np.zeros(110, np.float32),
        poses=np.zeros((110, 6), np.float32),
        shut=np.zeros(110, bool),
        visemes=("silence",) * 40 + ("aa",) * 30 + ("silence",) * 40,
    )
    constant = np.where(truth.openings > 0, 6.0, 0.0).astype(np.float32)
    scores = score_openings(constant, truth, 40.0)
    assert scores.frames == 30 and scores.correlation is None and scores.rmse == pytest.approx(2)
    assert scores.shut_closed is None and scores.other_closed == 0
    assert score_openings(truth.openings[:60], truth, 40.0).frames == 20


def test_what_was_made_from_another_clip_is_refused(clips: list[Clip], folder: Path, tmp_path: Path) -> None:
    pictures = _pictures(clips[0], talking=False)[:2]
    with pytest.raises(InputError, match="384x384"):
        open_truth(folder, FrameSource.from_array(pictures[:, :-2], FPS))
    with pytest.raises(InputError, match="30 frames a second"):
        open_truth(folder, FrameSource.from_array(pictures, Fraction(30)))
    with pytest.raises(InputError, match=r"truth\.json"):
        open_truth(tmp_path / "truth.json", FrameSource.from_array(pictures, FPS))


@pytest.mark.parametrize("own", [".", "truth.json", "../clip-0/truth.json"])
def test_the_clip_itself_is_no_other_clip(folder: Path, talking: list[np.ndarray], own: str) -> None:
    video = FrameSource.from_array(talking[0][:1], FPS)
    other = folder.parent / "clip-1"
    assert not open_truth(folder, video, [folder / own]).others
    for given in (folder, folder / "truth.json"):
        assert len(open_truth(given, video, [folder / own, other, other / "truth.json"]).others) == 1


def test_evaluate_reports_the_truth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--video", str(folder / "talking.mp4"), "--quiet", "--json"]
    assert main([*command, "--truth", str(folder)]) == 0
    truth = json.loads(capsys.readouterr().out)["truth"]
    assert truth["opening"]["correlation"] > 0.99 and truth["opening"]["others"] == 1
    assert truth["mouth"]["identical"] and truth["ceiling"]["shut_closed"] == 1


@pytest.mark.parametrize("stray", [["--vae"], ["--other", "truth.json"]])
@pytest.mark.parametrize("command", [["--video", "talking.mp4"], ["--fid", "one", "two"]])
def test_options_of_a_truth_need_one(stray: list[str], command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *command, *stray]) == 2
    assert f"{stray[0]} belongs to the truth" in capsys.readouterr().err


def test_the_autoencoder_is_the_included_one_by_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "included").mkdir()
    monkeypatch.setattr(included, "FOLDER", tmp_path / "included")
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--video", str(folder / "talking.mp4"), "--truth", str(folder), "--vae"]
    assert main(command) == 3
    assert str(tmp_path / "included") in capsys.readouterr().err


def test_rows_say_what_was_not_measured(gone: Path, talking: list[np.ndarray]) -> None:
    video = FrameSource.from_array(talking[0][:20], FPS)
    found = evaluate(video, truth=gone, vae=lambda crops: crops)
    assert found.truth is not None and (found.truth.frames, found.truth.truth_frames) == (20, 30)
    rows = {row.name: row for row in figures(found)}
    short = rows["Frames against the truth"]
    assert short.value == "20 of 30" and "others are not told" in short.meaning
    assert rows["Mouth and other clips' truth"].value is None
    for name in ("Ceiling (the true clip measured)", "Ceiling of the autoencoder", "Mouth against the true clip"):
        assert rows[name].value is None and "talking.mp4 is not there" in rows[name].meaning
    assert "source.mp4 is not there" in rows["Out of the face box"].meaning
    assert rows["Mouth and truth: closed on p, b, m"].value == "100%"
