"""JSON, HTML, the strip, FID and the command."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from musetalk.errors import InputError, ModelFileError, MuseTalkError, OutputError
from musetalk.evaluation import Evaluation, measure_fid, strip, write_report
from musetalk.evaluation.cli import add_evaluate
from musetalk.evaluation.hub_weights import hub_weights
from musetalk.evaluation.page import html_page
from musetalk.evaluation.perceptual import load_lpips


def run(*options: object) -> tuple[dict, int]:
    parser = argparse.ArgumentParser()
    add_evaluate(parser.add_subparsers())
    args = parser.parse_args(["evaluate", *map(str, options)])
    return args.run(args)


def test_the_command_writes_json_and_a_page(talk_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    options = ("--video", talk_file, "--reference", talk_file, "--output", folder, "--quiet", "--json")
    result, code = run(*options, "--models", tmp_path)
    assert code == 0
    json.dumps(result, allow_nan=False)
    assert result["comparison"]["outside"]["identical"] and "series" not in result
    assert abs(result["sync"]["offset_frames"]) < 1
    stored = json.loads((folder / "report.json").read_text())
    assert len(stored["series"]["opening"]) == 100 and stored["series"]["psnr_outside"][0] is None
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # identical clips have no PSNR to plot
    assert "http:" not in page and "https:" not in page and "identical" in page
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    with pytest.raises(OutputError, match="--overwrite"):
        run(*options)


def test_the_command_in_words(talk_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--video", talk_file, "--quiet", "--models", tmp_path)
    said = capsys.readouterr().out
    assert "Sound against lips: 0." in said and "SyncNet: not measured" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--video"),
        (("--fid", "a", "b", "--video", "c"), "leave out --video"),
        (("--video", "/nowhere/a.mp4"), "nowhere"),
    ],
)
def test_wrong_options_are_refused(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(MuseTalkError, match=message):
        run(*options, "--quiet")


def test_names_cannot_break_the_page(against_itself: Evaluation) -> None:
    evil = '<script>alert("x")</script>\'">&.mp4'
    page = html_page(replace(against_itself, video=evil, audio=evil, missing={"syncnet": evil, evil: evil}))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert page.count('">') == html_page(against_itself).count('">')


def test_a_faceless_clip_has_a_page_too(against_itself: Evaluation) -> None:
    series = replace(against_itself.series, opening=np.full(100, np.nan))
    why = {"motion": "no face", "sync": "no face", "silent_motion": "no face", "shake": "no face", "syncnet": "none"}
    blind = replace(
        against_itself,
        motion=None,
        silent_motion=None,
        sync=None,
        shake=None,
        comparison=None,
        missing=why,
        series=series,
    )
    assert html_page(blind).count("not measured") >= 5
    assert strip(blind, 0, 320).shape == (96, 320, 3)


def test_the_report_folder_may_not_be_a_file(against_itself: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        write_report(against_itself, tmp_path / "taken")


def test_the_strip_has_a_playhead_that_moves(against_itself: Evaluation) -> None:
    def playhead(picture: np.ndarray) -> int:
        columns = np.flatnonzero((picture[20:] > 220).all(axis=(0, 2)))
        assert len(columns) >= 1
        return int(columns[0])

    whole = [strip(against_itself, frame, 400, 96, seconds=None) for frame in (0, 50, 99)]
    assert [playhead(picture) for picture in whole] == pytest.approx([2, 202, 398], abs=2)
    scrolled = strip(against_itself, 50, 400, seconds=1.0)
    assert playhead(scrolled) == pytest.approx(200, abs=10)
    assert whole[0].dtype == np.uint8 and whole[0].shape == (96, 400, 3)


@pytest.mark.parametrize(("frame", "size"), [(100, (320, 96)), (-1, (320, 96)), (0, (20, 96)), (0, (320, 8))])
def test_the_strip_refuses_what_it_cannot_draw(against_itself: Evaluation, frame: int, size: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        strip(against_itself, frame, *size)


class MeanColour(torch.nn.Module):
    """Features of three numbers."""

    num_features = 3

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.float().mean(dim=(2, 3)) / 255


def test_fid_of_folders(tmp_path: Path, talk_file: Path) -> None:
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(0)
    for name, low in (("a", 0), ("b", 120)):
        (tmp_path / name).mkdir()
        for i in range(6):
            shade = rng.integers(low, low + 100, 3)
            noise = rng.integers(0, 30, (20 + i, 30, 3))
            Image.fromarray((noise + shade).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "a" / "notes.txt").write_text("not a picture")
    same = measure_fid(tmp_path / "a", tmp_path / "a", features=MeanColour(), device="cpu")
    other = measure_fid(tmp_path / "a", tmp_path / "b", features=MeanColour(), device="cpu")
    assert same.fid == pytest.approx(0, abs=1e-4) and (same.first, same.second) == (6, 6)
    assert other.fid > 0.05
    assert measure_fid(talk_file, talk_file, features=MeanColour(), device="cpu").first == 100


def test_fid_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchmetrics")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "0.png")
    with pytest.raises(InputError, match=r"torch-fidelity|Inception weights"):
        measure_fid(tmp_path / "one", tmp_path / "one")
    with pytest.raises(InputError, match="1 picture"):
        measure_fid(tmp_path / "one", tmp_path / "one", features=MeanColour())
    with pytest.raises(InputError, match="does not exist"):
        measure_fid(tmp_path / "none", tmp_path / "one", features=MeanColour())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture"):
        measure_fid(tmp_path / "empty", tmp_path / "one", features=MeanColour())


class Payload:
    """What no weight file may hold."""

    def __reduce__(self):
        return print, ("run",)


def test_weights_with_code_in_them_are_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"weights": Payload()}, folder / "evil.pth")
    torch.save({"weights": torch.zeros(2)}, folder / "good.pth")
    with pytest.raises(ModelFileError, match=r"evil\.pth"):
        hub_weights("evil.pth", "https://example.org")
    assert "run" not in capsys.readouterr().out
    assert hub_weights("good.pth", "https://example.org") == folder / "good.pth"
    with pytest.raises(InputError, match=r"https://example\.org/none\.pth"):
        hub_weights("none.pth", "https://example.org")


def test_without_lpips_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    reason = load_lpips("cpu")
    assert isinstance(reason, str) and ("pip install lpips" in reason or "alexnet" in reason)
