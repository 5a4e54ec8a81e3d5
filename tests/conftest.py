"""Fixtures shared by the whole suite."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from musetalk.training.synthetic.clips import Clip
    from musetalk.training.synthetic.espeak import Speech

ROOT = Path(__file__).resolve().parents[1]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# The networks here are tiny: a second OpenMP thread gains nothing, and on a busy machine it stalls for 100 ms a call.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden tensors and real clips that lies beside the checkout on the makers' machines."""
    folder = ROOT.parent / "shared"
    if not (folder / "goldens").is_dir():
        pytest.skip(f"NOT RUN: needs the golden tensors and clips in {folder}, which is not on this machine")
    return folder


@pytest.fixture(scope="session")
def random_models() -> ModuleType:
    """tests/random_models.py: makes models with random weights in the official layout."""
    return _helper("random_models")


@pytest.fixture(scope="session")
def talking() -> ModuleType:
    """tests/talking.py: clips with exact truth, a recorded sentence, and the measure of mouths in pictures."""
    return _helper("talking")


@pytest.fixture(scope="session")
def in_browser() -> Callable[[Path, Any], Any]:
    """Runs one of the tests' scripts for a headless Chromium: ``in_browser(script, request)`` is what it saw there.

    Needs Node.js, a Chromium (``CHROMIUM``, else the one on the PATH) and the npm package playwright-core, whose folder
    ``PLAYWRIGHT_CORE`` names: ``npm install --prefix DIR playwright-core`` puts it into
    DIR/node_modules/playwright-core.
    """
    core = os.environ.get("PLAYWRIGHT_CORE", "")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if shutil.which("node") is None or chromium is None or not (Path(core) / "index.mjs").is_file():
        pytest.skip(
            "NOT RUN: needs node, a Chromium (CHROMIUM) and playwright-core (PLAYWRIGHT_CORE); see tests/conftest.py"
        )

    def run(script: Path, request: Any) -> Any:
        done = subprocess.run(
            ["node", str(script)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env={**os.environ, "PLAYWRIGHT_CORE": core, "CHROMIUM": chromium},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    return run


def _helper(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_models_dir(random_models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with tiny random weights, face parser included."""
    folder = tmp_path_factory.mktemp("models")
    random_models.make_random_models(folder)
    return folder


@pytest.fixture(scope="session")
def mini_models_dir(random_models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the sizes of musetalk-mini: 128 audio channels, 8 groups, half precision, no face parser."""
    folder = tmp_path_factory.mktemp("mini_models")
    random_models.make_random_mini(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_models(tiny_models_dir: Path):
    from musetalk import load_models

    return load_models(tiny_models_dir, device="cpu")


@pytest.fixture(scope="session")
def mini_models():
    """musetalk-mini, the model that lies in the package: the one whose pictures mean something."""
    from musetalk import load_models

    return load_models("mini", device="cpu")


@pytest.fixture(scope="session")
def talking_clip(talking: ModuleType) -> Callable[..., Clip]:
    """Makes clips of a bundled portrait or a drawn face: ``talking_clip(face, speech, fps)``, by default the
    astronaut saying the recorded sentence at 25 fps."""
    return talking.talking_clip


@pytest.fixture(scope="session")
def fresh_speech() -> Callable[[int], Speech]:
    """Speaks a sentence in a voice that training never hears, chosen by a seed; skips where espeak-ng is not."""
    from musetalk.errors import InputError, MuseTalkError
    from musetalk.training.synthetic.espeak import speak
    from musetalk.training.synthetic.scripts import held_out_line

    def make(seed: int) -> Speech:
        try:
            return speak(*held_out_line(np.random.default_rng(seed)))
        except InputError:
            raise
        except MuseTalkError as error:
            pytest.skip(f"NOT RUN: {error}")

    return make


@pytest.fixture(scope="session")
def mesh_models(tiny_models):
    """The tiny models without a face parser: masks are drawn from the mesh."""
    from dataclasses import replace

    return replace(tiny_models, face_parser=None)


@pytest.fixture(scope="session")
def portrait_golden() -> dict[str, np.ndarray]:
    """Every stage of the original code on a public-domain portrait; see tests/goldens/README.md."""
    with np.load(ROOT / "tests" / "goldens" / "portrait.npz") as file:
        golden = {name: file[name] for name in file.files}
    golden["parse_mask"] = np.unpackbits(golden["parse_mask"], axis=-1) * 255
    sources = golden["frames"][golden["source_index"]]
    for kind in ("offline", "realtime"):
        golden[f"blended_{kind}"] = sources + golden.pop(f"blended_{kind}_change")
    return golden


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A public-domain portrait, one face, uint8 RGB ``[320, 384, 3]``."""
    with Image.open(ROOT / "demo" / "astronaut.png") as image:
        return np.asarray(image.convert("RGB"))[:320, 40:424].copy()


@pytest.fixture(scope="session")
def speech() -> Path:
    """A synthetic voice, 3.2 s, 22,050 Hz, mono."""
    return ROOT / "demo" / "speech.wav"


@pytest.fixture(scope="session")
def portrait_frames(portrait: np.ndarray) -> np.ndarray:
    """A clip of one moving face, uint8 RGB ``[12, 320, 384, 3]``."""
    return np.stack([np.roll(portrait, (i % 3, 2 * i), axis=(0, 1)) for i in range(12)])


@pytest.fixture(scope="session")
def voice() -> np.ndarray:
    """Half a second of something voice-like, float32 ``[8000]`` at 16 kHz."""
    time = np.arange(8000) / 16000
    return (0.3 * np.sin(2 * np.pi * 180 * time) * np.sin(2 * np.pi * 4 * time) ** 2).astype(np.float32)


@pytest.fixture(scope="session")
def clip(portrait_frames: np.ndarray, voice: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The moving face as a 25 fps video file with sound."""
    from fractions import Fraction

    from musetalk.audio.source import AudioSource
    from musetalk.video.writer import VideoWriter

    path = tmp_path_factory.mktemp("clip") / "talk.mp4"
    with VideoWriter(path, 384, 320, Fraction(25), audio=AudioSource.from_array(voice, 16000)) as writer:
        writer.write(portrait_frames)
    return path
