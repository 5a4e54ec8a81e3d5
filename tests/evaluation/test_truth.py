"""Clips measured against the truth they were made from."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

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
SECONDS = 1.6
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
def folder(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, of which the first has its videos."""
    out = tmp_path_factory.mktemp("clips")
    for index, clip in enumerate(clips):
        place = out / f"clip-{index}"
        place.mkdir()
        size = clip.scene.picture.shape[1], clip.scene.picture.shape[0]
        known = TruthFile(clip.truth(), FPS, size, clip.scene.box, clip.still, clip.take, "none", (), {})
        write_truth(place, known)
        for name, talking in (("talking.mp4", True), ("source.mp4", False)) if index == 0 else ():
            with VideoWriter(place / name, *size, FPS) as writer:
                writer.write(_pictures(clip, talking))
    return out / "clip-0"


def _measure(pictures: np.ndarray, folder: Path, **options: object) -> tuple[TruthScores, dict[str, str]]:
    missing: dict[str, str] = {}
    video = FrameSource.from_array(pictures, FPS)
    return compare_with_truth(video, open_truth(folder, video), missing=missing, **options), missing


def test_the_true_clip_is_near_perfect(clips: list[Clip], folder: Path) -> None:
    scores, missing = _measure(_pictures(clips[0], talking=True), folder)
    opening, ceiling = scores.opening, scores.ceiling
    assert opening.correlation is not None and opening.correlation > 0.995
    assert opening.other_correlation is not None and abs(opening.other_correlation) < 0.5
    assert opening.others == 1
    assert opening.shut_closed == 1 and opening.other_closed is not None and opening.other_closed < 0.3
    assert ceiling is not None and ceiling.correlation is not None and ceiling.correlation > 0.99
    assert scores.mouth is not None and scores.mouth.psnr is not None and scores.mouth.psnr > 35
    assert scores.vae is None and "truth.vae" in missing


def test_lip_sync_of_the_source_touches_nothing_else(clips: list[Clip], folder: Path) -> None:
    with FrameSource.open(folder / "source.mp4") as source:
        pictures = source[:].copy()
    still, _ = _measure(pictures, folder)
    assert still.outside is not None and still.outside.identical
    assert still.opening.correlation is None or abs(still.opening.correlation) < 0.5
    assert still.opening.shut_closed == still.opening.other_closed == 1

    x0, y0, x1, y1 = clips[0].scene.box
    middle = (y0 + y1) // 2
    pictures[:, middle:y1, x0:x1] = _pictures(clips[0], talking=True)[:, middle:y1, x0:x1]
    pictures[3, 0, 0] ^= 8
    synced, _ = _measure(pictures, folder)
    assert synced.outside is not None and synced.outside.changed_pixels == 1
    assert synced.opening.correlation is not None and synced.opening.correlation > 0.99
    assert synced.mouth is not None and still.mouth is not None
    assert synced.mouth.psnr > still.mouth.psnr + 10  # type: ignore[operator]


def test_another_clips_mouth_does_not_follow_this_truth(clips: list[Clip], folder: Path) -> None:
    opening = _measure(_pictures(clips[1], talking=True), folder)[0].opening
    assert opening.correlation is not None and abs(opening.correlation) < 0.5
    assert opening.other_correlation is not None and opening.other_correlation > 0.99
    assert opening.shut_closed is not None and opening.shut_closed < 0.8


def test_an_autoencoder_has_its_own_ceiling(clips: list[Clip], folder: Path) -> None:
    def average(crops: np.ndarray) -> np.ndarray:
        return np.repeat(crops.mean(axis=0, keepdims=True), len(crops), axis=0).astype(np.uint8)

    scores, missing = _measure(_pictures(clips[0], talking=True), folder, vae=average)
    assert scores.vae is not None and scores.ceiling is not None and scores.vae.rmse > 3 * scores.ceiling.rmse
    assert scores.vae_mouth is not None and "truth.vae" not in missing


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


def test_evaluate_reports_the_truth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--video", str(folder / "talking.mp4"), "--quiet", "--json"]
    assert main([*command, "--truth", str(folder)]) == 0
    truth = json.loads(capsys.readouterr().out)["truth"]
    assert truth["opening"]["correlation"] > 0.99 and truth["opening"]["others"] == 1
    assert truth["mouth"]["identical"] and truth["ceiling"]["shut_closed"] == 1
    assert main([*command, "--vae"]) == 2


def test_rows_say_what_was_not_measured(folder: Path) -> None:
    rows = {row.name: row for row in figures(evaluate(folder / "talking.mp4", truth=folder, others=[]))}
    assert rows["Mouth and other clips' truth"].value is None
    assert "--vae" in rows["Ceiling of the autoencoder"].meaning
    assert rows["Mouth and truth: closed on p, b, m"].value == "100%"
