"""A real ComfyUI server with this pack in it, one per session, and a small client.

Where: ``COMFYUI_PATH`` and ``COMFYUI_PYTHON``; else the ComfyUI this folder is installed in; else ``~/comfy/ComfyUI``.
Its Python is ``.venv`` inside it where there is one. ``COMFYUI_ARGS`` adds arguments to its command line.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ..servers import free_port, running

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT = 120
PROMPT_TIMEOUT = 180


@dataclass(frozen=True)
class Result:
    """One finished prompt: its history entry in terms of what tests ask."""

    status: str
    outputs: dict[str, Any]
    cached: set[str]
    messages: dict[str, dict[str, Any]]

    @property
    def error(self) -> str:
        return self.messages["execution_error"]["exception_message"]


class Client:
    """Talks to one server. Paths are those of its own base folder."""

    def __init__(self, address: str, base: Path) -> None:
        self.address, self.base = address, base

    def call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            content = response.read()
        return json.loads(content) if content else None

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt, which must be valid as a whole; returns its id."""
        try:
            answer = self.call("/prompt", {"prompt": prompt})
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        assert not answer.get("node_errors"), answer
        return answer["prompt_id"]

    def refused(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt that must be refused before anything runs; returns the reasons as text."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.call("/prompt", {"prompt": prompt})
        return caught.value.read().decode()

    def wait(self, prompt_id: str, timeout: float = PROMPT_TIMEOUT) -> Result:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.call(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                messages = dict(entry["status"]["messages"])
                cached = set(messages.get("execution_cached", {}).get("nodes", ()))
                return Result(entry["status"]["status_str"], entry["outputs"], cached, messages)
            time.sleep(0.05)
        raise AssertionError(f"prompt {prompt_id} did not finish in {timeout} s")

    def run(self, prompt: dict[str, Any]) -> Result:
        """Run a prompt that must succeed."""
        result = self.wait(self.queue(prompt))
        assert result.status == "success", result.messages.get("execution_error", result.messages)
        return result

    def fails(self, prompt: dict[str, Any]) -> str:
        """Run a prompt that must stop with an error; returns its message."""
        result = self.wait(self.queue(prompt))
        assert result.status == "error", result
        return result.error

    def files(self, result: Result, node: str) -> list[Path]:
        """The files an output node wrote."""
        entries = next(value for value in result.outputs[node].values() if isinstance(value[0], dict))
        return [self.base / entry["type"] / entry["subfolder"] / entry["filename"] for entry in entries]


@pytest.fixture(scope="session")
def comfy_root() -> Path:
    given = os.environ.get("COMFYUI_PATH")
    installed = ROOT.parent.parent if ROOT.parent.name == "custom_nodes" else None
    for folder in (Path(given) if given else None, installed, Path.home() / "comfy" / "ComfyUI"):
        if folder is not None and (folder / "main.py").is_file():
            return folder
    pytest.skip("NOT RUN: needs a ComfyUI; set COMFYUI_PATH (and COMFYUI_PYTHON) to one")


@pytest.fixture(scope="session")
def comfy_python(comfy_root: Path) -> str:
    given = os.environ.get("COMFYUI_PYTHON")
    candidates = [comfy_root / ".venv" / "bin" / "python", comfy_root / ".venv" / "Scripts" / "python.exe"]
    python = given or next((str(path) for path in candidates if path.is_file()), sys.executable)
    if subprocess.run([python, "-c", "import torch, aiohttp, av"], capture_output=True).returncode:
        pytest.skip(f"NOT RUN: {python} lacks ComfyUI's requirements; set COMFYUI_PYTHON")
    return python


@pytest.fixture(scope="session")
def outcomes_of(
    comfy_root: Path, comfy_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, str | None]]:
    """Runs a script of checks in ComfyUI's Python, beside a base folder of its own: null or why it failed, by check."""

    def run(script: str, *arguments: Path) -> dict[str, str | None]:
        base = tmp_path_factory.mktemp(Path(script).stem)
        (base / "custom_nodes").mkdir()
        command = [comfy_python, str(Path(__file__).with_name(script)), *map(str, arguments)]
        result = subprocess.run(
            [*command, "--base-directory", str(base)],
            env={**os.environ, "PYTHONPATH": str(comfy_root), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return json.loads(result.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def core_models_dir(tiny_models_dir: Path, random_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models with a VAE that ComfyUI's own VAE class can hold: 32 normalisation groups."""
    folder = tmp_path_factory.mktemp("core_models") / "musetalk"
    shutil.copytree(tiny_models_dir, folder)
    random_models.write_core_vae(folder)
    return folder


@pytest.fixture(scope="session")
def duo(portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side, 640x320, 12 frames at 25 fps, as a silent video file."""
    from musetalk.video.writer import VideoWriter

    with Image.open(ROOT / "tests" / "data" / "grace_hopper.jpg") as image:
        other = np.asarray(image.convert("RGB"))[60:380, 100:420]
    first = cv2.resize(portrait[:, 32:352], (320, 320))
    frames = [np.concatenate([np.roll(first, i, 1), np.roll(other, -i, 1)], axis=1) for i in range(12)]
    path = tmp_path_factory.mktemp("duo") / "two_people.mp4"
    with VideoWriter(path, 640, 320, Fraction(25)) as writer:
        writer.write(np.stack(frames))
    return path


@pytest.fixture(scope="session")
def live_extra(comfy_python: str) -> None:
    """What live avatars need beyond the pack's requirements."""
    if subprocess.run([comfy_python, "-c", "import aiortc, prometheus_client"], capture_output=True).returncode:
        pytest.skip("NOT RUN: ComfyUI's Python needs the extra [live]: pip install -c constraints.txt '.[live]'")


@pytest.fixture(scope="session")
def server(
    comfy_root: Path,
    comfy_python: str,
    core_models_dir: Path,
    clip: Path,
    duo: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("comfy")
    for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (base / name).mkdir()
    (base / "custom_nodes" / "musetalk-studio").symlink_to(ROOT, target_is_directory=True)
    (base / "custom_nodes" / "other-pack").symlink_to(Path(__file__).parent / "other_pack", target_is_directory=True)
    shutil.copytree(core_models_dir, base / "models" / "musetalk")
    shutil.copy(clip, base / "input" / "talk.mp4")
    shutil.copy(duo, base / "input" / "two_people.mp4")
    _write_voice(base / "input" / "voice.wav", seconds=0.8)
    _write_voice(base / "input" / "long.wav", seconds=120)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [comfy_python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--database-url", f"sqlite:///{base}/user/comfyui.db"]
    command += ["--disable-auto-launch", *shlex.split(os.environ.get("COMFYUI_ARGS", ""))]
    log = base / "comfy.log"
    with running(command, comfy_root, log, PYTHONDONTWRITEBYTECODE="1") as process:
        _wait_until_ready(process, address, log)
        yield Client(address, base)


@pytest.fixture(scope="session")
def object_info(server: Client) -> dict[str, Any]:
    return server.call("/object_info")


class Graph:
    """An API-format prompt: widgets that are not named get their defaults, as in the browser."""

    def __init__(self, object_info: dict[str, Any]) -> None:
        self.info, self.prompt = object_info, {}

    def add(self, name: str, class_type: str, **inputs: Any) -> None:
        defaults = {}
        for key, (kind, *options) in self.info[class_type]["input"].get("required", {}).items():
            settings = options[0] if options else {}
            if "default" in settings:
                defaults[key] = settings["default"]
            elif kind == "COMBO" and settings.get("options"):
                defaults[key] = settings["options"][0]
            elif isinstance(kind, list) and kind:
                defaults[key] = kind[0]
        self.prompt[name] = {"class_type": class_type, "inputs": {**defaults, **inputs}}

    def add_stages(self, frames: Any = ("footage", 0), **prepare: Any) -> None:
        """Prepare, listen, inpaint, decode and paste, and save the frames."""
        models = {"vae": ["models", 1], "face_models": ["models", 3]}
        self.add("avatar", "MuseTalkPrepareAvatar", frames=list(frames), **models, **prepare)
        sound = {"audio": ["voice", 0], "audio_encoder": ["models", 2], "avatar": ["avatar", 0]}
        self.add("sound", "MuseTalkAudioFeatures", **sound)
        self.add("unet", "MuseTalkInpaint", model=["models", 0], avatar=["avatar", 0], audio_features=["sound", 0])
        self.add("decode", "MuseTalkDecodePasteBack", vae=["models", 1], avatar=["avatar", 0], latent=["unet", 0])
        self.add("save_frames", "SaveImage", images=["decode", 0], filename_prefix="frames")

    def add_lipsync(self, video: Any = ("footage", 0), audio: Any = ("voice", 0), **widgets: Any) -> None:
        """The whole job in one node, and save the video."""
        links = {"model": 0, "vae": 1, "audio_encoder": 2, "face_models": 3}
        inputs: dict[str, Any] = {name: ["models", index] for name, index in links.items()}
        if audio is not None:
            inputs["audio"] = list(audio)
        self.add("lipsync", "MuseTalkLipSyncVideo", video=list(video), **inputs, **widgets)
        self.add("save_video", "SaveVideo", video=["lipsync", 0], filename_prefix="spoken", format="auto", codec="auto")
        self.add("report", "PreviewAny", source=["lipsync", 1])


@pytest.fixture(scope="session")
def new_graph(object_info: dict[str, Any]) -> Callable[..., Graph]:
    """Makes graphs with models, footage and voice. The face parser is of full size: half a second a frame."""

    def make(face_parser: str = "none", file: str = "talk.mp4", **models: Any) -> Graph:
        graph = Graph(object_info)
        graph.add("models", "MuseTalkLoadModels", face_parser=face_parser, **models)
        graph.add("footage", "LoadVideo", file=file)
        graph.add("voice", "LoadAudio", audio="voice.wav")
        return graph

    return make


@pytest.fixture
def graph(new_graph: Callable[..., Graph]) -> Graph:
    return new_graph()


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/system_stats", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"ComfyUI did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _write_voice(path: Path, seconds: float) -> None:
    time_axis = np.arange(int(seconds * 16000)) / 16000
    samples = 0.3 * np.sin(2 * np.pi * 180 * time_axis) * np.sin(2 * np.pi * 4 * time_axis) ** 2
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
