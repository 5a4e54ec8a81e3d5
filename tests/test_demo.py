"""``make demo``, as a new user runs it: the included model, the bundled portrait and the bundled sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The video and what was printed, made by a copy of the folder: this checkout's own result is left alone."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "demo", root / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(root / "demo" / "demo.py")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root / "build" / "demo" / "demo.mp4", done.stdout


def test_a_portrait_speaks_with_sound(demo: tuple[Path, str]) -> None:
    path, printed = demo
    assert f"{Path('build', 'demo', 'demo.mp4')}: 80 frames at 25 fps" in printed
    with av.open(str(path)) as file:
        assert file.streams.video[0].average_rate == 25
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with av.open(str(path)) as file:
        heard = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
    with Image.open(ROOT / "demo" / "astronaut.png") as image:
        portrait = np.asarray(image.convert("RGB"))
    assert frames.shape == (80, *portrait.shape)
    assert heard == pytest.approx(3.2, abs=0.08)  # an AAC packet or two
    # The mouth moves, and nothing else: the jaw of this portrait is within these rows and columns.
    moves = np.ptp(frames, axis=0).max(axis=-1)
    rows, columns = np.nonzero(moves > 60)
    assert len(rows) > 200 and rows.min() > 110 and rows.max() < 200 and columns.min() > 170 and columns.max() < 280
    above = slice(0, 100)
    assert np.abs(frames[0, above].astype(np.int16) - portrait[above]).mean() < 3
