"""``musetalk live`` as a process of its own, with one avatar."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ...servers import free_port, running

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 120
AVATAR = "ada"
# Squares with the number of the frame, in a corner that the avatar's mouth leaves alone; see watch.mjs.
CELLS, SIDE = 6, 16
FRAMES = 50


@pytest.fixture(scope="session")
def numbered_clip(portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a still face, 384x320 at 25 fps, each frame with its number in black and white squares."""
    from musetalk.video.writer import VideoWriter

    frames = np.repeat(portrait[None], FRAMES, axis=0)
    for index, frame in enumerate(frames):
        for cell in range(CELLS):
            frame[:SIDE, cell * SIDE : (cell + 1) * SIDE] = 255 * (index >> cell & 1)
    path = tmp_path_factory.mktemp("numbered") / "numbered.mp4"
    with VideoWriter(path, 384, 320, Fraction(25)) as writer:
        writer.write(frames)
    return path


@pytest.fixture(scope="session")
def address(
    in_browser: Callable[[Path, Any], Any], numbered_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where ``musetalk live`` listens, with musetalk-mini and one warm avatar. Not without a browser to see it."""
    base = tmp_path_factory.mktemp("live")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "musetalk",
        "live",
        "--models",
        "mini",
        "--avatars",
        "avatars",
        "--port",
        str(port),
    ]
    address, log = f"http://127.0.0.1:{port}", base / "live.log"
    with running(command, base, log, PYTHONPATH=str(ROOT)) as process:
        _wait(lambda: _answer(f"{address}/ready")["ready"], process, log)
        job = _answer(f"{address}/avatars?name={AVATAR}", numbered_clip.read_bytes())
        _wait(lambda: _answer(f"{address}/jobs/{job['id']}")["state"] == "done", process, log)
        yield address


def _answer(url: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as response:
        return json.loads(response.read())


def _wait(until: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if until():
                return
        except urllib.error.URLError:
            pass
        time.sleep(0.2)
    pytest.fail(f"musetalk live did not come so far:\n{log.read_text(errors='replace')[-4000:]}")
