"""Every shared workflow, run as it is shipped on a real ComfyUI server, with tiny random weights and short inputs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
VOICE_SECONDS, SECOND_VOICE_SECONDS = 0.8, 0.6
CLIP_SIZE, PHOTO_SIZE, DUO_SIZE = (384, 320), (512, 512), (640, 320)
# Core nodes that ComfyUI 0.3.64 and 0.33 both have. The rest of a shared workflow is this pack's.
CORE_NODES = {
    "CreateVideo",
    "ImageScale",
    "ImageUpscaleWithModel",
    "LoadAudio",
    "LoadImage",
    "LoadVideo",
    "PreviewAny",
    "PreviewImage",
    "RepeatImageBatch",
    "SaveVideo",
    "UpscaleModelLoader",
    "VAEDecode",
}


@dataclass(frozen=True)
class Video:
    frames: np.ndarray
    fps: Fraction
    sound_seconds: float

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[2], self.frames.shape[1]


@pytest.fixture(scope="module")
def host(server: Any) -> Any:
    """The server with the inputs and the model that the workflows name."""
    inputs = server.base / "input"
    shutil.copy(ROOT / "demo" / "astronaut.png", inputs)
    copy_beginning(ROOT / "demo" / "speech.wav", inputs / "speech.wav", VOICE_SECONDS)
    copy_beginning(ROOT / "demo" / "speech.wav", inputs / "speech_2.wav", SECOND_VOICE_SECONDS)
    folder = server.base / "models" / "upscale_models"
    folder.mkdir(exist_ok=True)
    torch.save(tiny_upscaler(), folder / "GFPGANv1.4.pth")
    return server


@pytest.fixture(scope="module")
def object_info(host: Any) -> dict[str, Any]:
    return host.call("/object_info")


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_workflow_api", ROOT / "scripts" / "make_workflow_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_beginning(source: Path, target: Path, seconds: float) -> None:
    with wave.open(str(source)) as voice, wave.open(str(target), "wb") as file:
        file.setparams(voice.getparams())
        file.writeframes(voice.readframes(round(seconds * voice.getframerate())))


def tiny_upscaler() -> dict[str, torch.Tensor]:
    """A compact network that doubles the size, by the names ComfyUI recognises; it adds faint noise."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"body.0": (4, 3, 3, 3), "body.2": (4, 4, 3, 3), "body.4": (12, 4, 3, 3)}
    weights = {f"{name}.weight": 0.02 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    weights |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    return weights | {f"body.{index}.weight": torch.full((4,), 0.25) for index in (1, 3)}


def twin(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))


def nodes_of(prompt: Mapping[str, Any], kind: str) -> list[str]:
    return [node for node, content in prompt.items() if content["class_type"] == kind]


def run(host: Any, name: str) -> tuple[dict[str, Any], Any]:
    prompt = twin(name)
    return prompt, host.run(prompt)


def videos(host: Any, prompt: Mapping[str, Any], result: Any) -> list[Video]:
    return [open_video(path) for node in nodes_of(prompt, "SaveVideo") for path in host.files(result, node)]


def open_video(path: Path) -> Video:
    with av.open(str(path)) as file:
        fps = Fraction(file.streams.video[0].average_rate)
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with av.open(str(path)) as file:
        sound = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
    return Video(frames, fps, float(sound))


def check(video: Video, seconds: float, size: tuple[int, int]) -> None:
    assert (len(video.frames), video.fps, video.size) == (round(seconds * 25), 25, size)
    assert video.sound_seconds == pytest.approx(seconds, abs=0.08)  # an AAC packet or two


def test_video_dub(host):
    (video,) = videos(host, *run(host, "video_dub"))
    check(video, VOICE_SECONDS, CLIP_SIZE)
    footage = open_video(host.base / "input" / "talk.mp4").frames
    # Above the face the footage shows through, forward and then backward.
    for index, source in ((0, 0), (11, 11), (12, 11), (19, 4)):
        difference = np.abs(video.frames[index, :40].astype(int) - footage[source, :40])
        assert difference.mean() < 4, (index, source)
    assert np.abs(video.frames[0].astype(int) - footage[0]).mean() > 1  # the mouth is redrawn


def test_photo_voice(host):
    (video,) = videos(host, *run(host, "photo_voice"))
    check(video, VOICE_SECONDS, PHOTO_SIZE)
    assert video.frames.astype(int).std(axis=0).max() > 4  # it moves


def test_avatar_two_voices_and_saved_avatar(host):
    first, second = videos(host, *run(host, "avatar_two_voices"))
    check(first, VOICE_SECONDS, CLIP_SIZE)
    check(second, SECOND_VOICE_SECONDS, CLIP_SIZE)
    assert (host.base / "output" / "musetalk" / "avatars" / "avatar_00001_").is_dir()

    (video,) = videos(host, *run(host, "saved_avatar"))
    check(video, SECOND_VOICE_SECONDS, CLIP_SIZE)
    assert np.abs(video.frames.astype(int) - second.frames).mean() < 3  # another encode of the same frames


def test_long_video(host):
    prompt, result = run(host, "long_video")
    (video,) = videos(host, prompt, result)
    check(video, VOICE_SECONDS, CLIP_SIZE)
    (report,) = nodes_of(prompt, "PreviewAny")
    assert result.outputs[report]["text"][0].startswith("20 frames of 384x320 at 25 fps")


def test_restore_faces(host):
    (video,) = videos(host, *run(host, "restore_faces"))
    check(video, VOICE_SECONDS, CLIP_SIZE)
    (plain,) = videos(host, *run(host, "video_dub"))
    # This upscaler changes next to nothing, so the way through it must end where the short way ends.
    assert np.abs(video.frames.astype(int) - plain.frames).mean() < 2


def test_image_to_video(host):
    """2 s of frames at 16 a second, shown at 25; the voice is shorter."""
    (video,) = videos(host, *run(host, "image_to_video"))
    check(video, VOICE_SECONDS, PHOTO_SIZE)


def test_tune(host):
    prompt, result = run(host, "tune")
    (sheet,) = nodes_of(prompt, "PreviewImage")
    (path,) = host.files(result, sheet)
    with Image.open(path) as image:
        assert min(image.size) >= 256
        assert np.asarray(image).std() > 10
    (text,) = nodes_of(prompt, "PreviewAny")
    assert "bbox_shift" in result.outputs[text]["text"][0]


def test_two_speakers(host):
    prompt, result = run(host, "two_speakers")
    (video,) = videos(host, prompt, result)
    check(video, VOICE_SECONDS, DUO_SIZE)
    (path,) = host.files(result, *nodes_of(prompt, "PreviewImage"))
    with Image.open(path) as image:
        assert image.width > image.height > 192
    texts = [result.outputs[node]["text"][0] for node in nodes_of(prompt, "PreviewAny")]
    assert any("person 1: seen in 12 of 12 frames" in text for text in texts)
    assert all(f"person {index}: " in text for text in texts for index in (0, 1))


def test_live_avatar(live_extra, host):
    prompt, result = run(host, "live_avatar")
    (node,) = nodes_of(prompt, "MuseTalkLiveAvatar")
    (preview,) = nodes_of(prompt, "PreviewAny")
    (told,) = result.outputs[node]["musetalk_live"]
    assert result.outputs[preview]["text"][0] == host.address + told["path"]


def test_every_workflow_has_a_test():
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    assert [name for name in NAMES if name not in tests] == []


@pytest.mark.parametrize("name", NAMES)
def test_twin_is_up_to_date(name, converter, object_info):
    graph = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert converter.api_format(graph, object_info) == twin(name), "run scripts/make_workflow_api.py"


@pytest.mark.parametrize("name", NAMES)
def test_only_nodes_that_every_supported_comfyui_has(name):
    kinds = {node["class_type"] for node in twin(name).values()}
    assert {kind for kind in kinds if not kind.startswith("MuseTalk")} <= CORE_NODES


@pytest.mark.parametrize("name", NAMES)
def test_described(name):
    graph = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert [node for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    assert f"`{name}.json`" in (WORKFLOWS / "README.md").read_text(encoding="utf-8")
    with Image.open(WORKFLOWS / f"{name}.jpg") as thumbnail:
        assert max(thumbnail.size) <= 640


@pytest.mark.parametrize("name", NAMES)
def test_in_the_template_browser(name, host):
    """ComfyUI looks into several folders of a pack for templates, and serves only the first that exists."""
    (pack,) = host.call("/workflow_templates")
    assert name in host.call("/workflow_templates")[pack]
    assert host.call(f"/api/workflow_templates/{pack}/{name}.json")["version"] == 0.4


def test_no_input_grows_a_widget_in_the_browser(object_info):
    """The browser makes a box editor of an optional BOUNDING_BOX, and sends its box with every prompt."""
    for kind, info in object_info.items():
        if kind.startswith("MuseTalk"):
            inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
            boxes = [options[0] for type_, *options in inputs.values() if type_ == "BOUNDING_BOX"]
            assert all(options.get("forceInput") for options in boxes), kind
