"""LoRAs and sync measures on a real ComfyUI server, against the engine on the same inputs and weights."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from musetalk import FrameSource, audio_features, inpaint, load_models
from musetalk.audio.source import AudioSource
from musetalk.avatar_file import load_avatar
from musetalk.evaluation import Evaluation, evaluate, strip
from musetalk.face.mesh import FaceMesh
from musetalk.latents import SCALING_FACTOR
from musetalk.models.lora import LoRA, LowRank, save_lora, with_loras
from musetalk.models.low_rank import targets_of
from musetalk.models.unet import UNetConfig
from musetalk.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[2]
ANNA, BERT = "anna.safetensors", "people/bert_lora.safetensors"
LATE, SPOKEN, STRIP = 3, 75, 72  # frames, frames, pixels
WIDTH, HEIGHT = 270, 330


def some_lora(config: UNetConfig, seed: int) -> LoRA:
    """Strong enough to be seen in every latent."""
    draw = torch.Generator().manual_seed(seed)
    layers = {
        name: LowRank(torch.randn(4, inputs, generator=draw) / inputs**0.5, torch.randn(outputs, 4, generator=draw) / 4)
        for name, (outputs, inputs) in targets_of(config).shapes.items()
    }
    return LoRA(4, 6.0, "v15", layers)


@pytest.fixture(scope="module")
def lora_files(server: Any, random_models: Any) -> Iterator[dict[str, Path]]:
    """One LoRA in each folder, among files of other kinds."""
    models = server.base / "models"
    files = {ANNA: models / "loras" / ANNA, BERT: models / "musetalk" / BERT}
    for seed, path in enumerate(files.values()):
        path.parent.mkdir(exist_ok=True)
        save_lora(some_lora(random_models.TINY_UNET, seed), path, random_models.TINY_UNET)
    save_file({"unet.a.lora_A.weight": torch.zeros(4, 4)}, models / "loras" / "foreign.safetensors")
    (models / "loras" / "broken.safetensors").write_bytes(b"no tensors in here")
    yield files
    shutil.rmtree(models / "loras")
    shutil.rmtree(files[BERT].parent)


@pytest.fixture(scope="module")
def engine(core_models_dir: Path) -> Any:
    return load_models(core_models_dir, device="cpu")


def run_unet(server: Any, new_graph: Any, *loras: tuple[str, float], voice: str = "voice.wav") -> tuple[Any, Any]:
    """The latents that a chain of LoRAs leads to, and the prompt's result."""
    graph = new_graph()
    graph.add("voice", "LoadAudio", audio=voice)
    sources = {"frames": ["footage", 0], "vae": ["models", 1], "face_models": ["models", 3]}
    graph.add("avatar", "MuseTalkPrepareAvatar", **sources)
    graph.add("save_avatar", "MuseTalkSaveAvatar", avatar=["avatar", 0], filename_prefix="lora/avatar")
    sound = {"audio": ["voice", 0], "audio_encoder": ["models", 2], "avatar": ["avatar", 0]}
    graph.add("sound", "MuseTalkAudioFeatures", **sound)
    model = ["models", 0]
    for place, (name, strength) in enumerate(loras):
        graph.add(f"lora_{place}", "MuseTalkApplyLoRA", model=model, lora=name, strength=strength)
        model = [f"lora_{place}", 0]
    graph.add("unet", "MuseTalkInpaint", model=model, avatar=["avatar", 0], audio_features=["sound", 0])
    graph.add("save", "SaveLatent", samples=["unet", 0], filename_prefix="lora_latent")
    result = server.run(graph.prompt)
    return load_file(server.files(result, "save")[0])["latent_tensor"], result


def with_engine(server: Any, engine: Any, *loras: tuple[Path, float]) -> torch.Tensor:
    avatar = load_avatar(server.base / "output" / "musetalk" / "avatars" / "lora" / "avatar_00001_")
    sound = AudioSource.open(server.base / "input" / "voice.wav")
    features = audio_features(engine, np.concatenate(list(sound.blocks()), axis=1), sound.sample_rate, fps=25)
    return inpaint(with_loras(engine, loras), avatar, features) / SCALING_FACTOR


def options(info: dict[str, Any], node: str, name: str) -> list[str]:
    kind, settings = info[node]["input"]["required"][name]
    return kind if isinstance(kind, list) else settings["options"]


def test_only_loras_of_musetalk_are_offered(server: Any, lora_files: Any, new_graph: Any) -> None:
    assert options(server.call("/object_info/MuseTalkApplyLoRA"), "MuseTalkApplyLoRA", "lora") == [BERT, ANNA]
    loader = server.call("/object_info/MuseTalkLoadModels")
    assert BERT not in options(loader, "MuseTalkLoadModels", "unet")
    graph = new_graph()
    graph.add("lora", "MuseTalkApplyLoRA", model=["models", 0], lora="foreign.safetensors", strength=1.0)
    graph.add("show", "PreviewAny", source=["lora", 0])
    assert "there is no MuseTalk LoRA 'foreign.safetensors'" in server.refused(graph.prompt)


def test_lora_is_the_engines_and_leaves_the_model_as_it_was(
    server: Any, lora_files: dict[str, Path], new_graph: Any, engine: Any
) -> None:
    plain, _ = run_unet(server, new_graph)
    changed, _ = run_unet(server, new_graph, (ANNA, 1.0))
    expected = with_engine(server, engine, (lora_files[ANNA], 1.0))
    assert torch.equal(plain, with_engine(server, engine))
    assert (changed - plain).abs().mean() > 0.05 * plain.abs().mean()
    assert (changed - expected).abs().max() < 1e-4 * expected.abs().max()

    # The same network, for its loader is not run again, but the sound is another file of the same content.
    for round_, loras, wanted in ((0, (), plain), (1, ((ANNA, 1.0),), changed), (2, ((ANNA, 0.0),), plain)):
        voice = f"voice_{round_}.wav"
        shutil.copy(server.base / "input" / "voice.wav", server.base / "input" / voice)
        again, result = run_unet(server, new_graph, *loras, voice=voice)
        assert "models" in result.cached and "unet" not in result.cached
        assert torch.equal(again, wanted), round_


def test_loras_add_up(server: Any, lora_files: dict[str, Path], new_graph: Any, engine: Any) -> None:
    both, _ = run_unet(server, new_graph, (ANNA, 0.5), (BERT, -0.75))
    expected = with_engine(server, engine, (lora_files[ANNA], 0.5), (lora_files[BERT], -0.75))
    assert (both - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_replaced_lora_is_read_anew(
    server: Any, lora_files: dict[str, Path], new_graph: Any, engine: Any, random_models: Any
) -> None:
    before, _ = run_unet(server, new_graph, (BERT, 1.0))
    save_lora(some_lora(random_models.TINY_UNET, 5), lora_files[BERT], random_models.TINY_UNET, overwrite=True)
    after, _ = run_unet(server, new_graph, (BERT, 1.0))
    expected = with_engine(server, engine, (lora_files[BERT], 1.0))
    assert not torch.allclose(before, after, atol=1e-2)
    assert (after - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.fixture(scope="module")
def late(server: Any) -> Path:
    """A portrait that talks, and its voice some frames late, as a video file among the server's inputs."""
    location = ROOT / "tests" / "evaluation" / "talking_clips.py"
    spec = importlib.util.spec_from_file_location("talking_clips", location)
    assert spec is not None and spec.loader is not None
    clips = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(clips)
    with Image.open(ROOT / "tests" / "data" / "grace_hopper.jpg") as image:
        picture = np.asarray(image.convert("RGB"))[70 : 70 + HEIGHT, 130 : 130 + WIDTH].copy()
    drive = clips.syllables(SPOKEN)
    sound = AudioSource.from_array(clips.voice(drive, LATE), 16000)
    path = server.base / "input" / "late.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, Fraction(25), audio=sound) as writer:
        writer.write(clips.Talker(picture, (40, 37, 227, 263), FaceMesh.load()).clip(drive))
    return path


@pytest.fixture(scope="module")
def expected(late: Path) -> Evaluation:
    return evaluate(late)


def add_measure(graph: Any, frames: Any = ("footage", 0), **inputs: Any) -> None:
    graph.add("measure", "MuseTalkMeasureSync", frames=list(frames), **inputs)
    for place, name in ((2, "report"), (3, "offset"), (4, "correlation")):
        graph.add(name, "PreviewAny", source=["measure", place])


def texts(result: Any) -> tuple[str, float, float]:
    report, offset, correlation = (result.outputs[name]["text"][0] for name in ("report", "offset", "correlation"))
    return report, float(offset), float(correlation)


def read_video(path: Path) -> tuple[np.ndarray, float]:
    """Frames, and seconds of sound."""
    with av.open(str(path)) as file:
        sound = sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))
    with FrameSource.open(path) as source:
        return source[:].astype(int), sound


def test_a_late_sound_is_measured_and_drawn(
    server: Any, late: Path, expected: Evaluation, new_graph: Any, tmp_path: Path
) -> None:
    graph = new_graph(file=late.name)
    add_measure(graph)
    save = {"filename_prefix": "measured", "format": "auto", "codec": "auto"}
    graph.add("save_video", "SaveVideo", video=["measure", 0], **save)
    result = server.run(graph.prompt)
    report, offset, correlation = texts(result)
    assert expected.sync is not None and expected.sync.offset_frames is not None
    assert offset == pytest.approx(LATE, abs=0.7) and offset == pytest.approx(expected.sync.offset_frames, abs=0.02)
    assert correlation == pytest.approx(expected.sync.correlation, abs=0.01)
    assert f"Frames with a mouth: {SPOKEN} of {SPOKEN} (" in report
    assert f"Sound against lips: {offset:.1f} frames late (+" in report
    assert "SyncNet: not measured (syncnet is none; choose auto or a file" in report

    frames, seconds = read_video(server.files(result, "save_video")[0])
    assert frames.shape == (SPOKEN, HEIGHT + STRIP, WIDTH, 3)
    assert seconds == pytest.approx(SPOKEN / 25, abs=0.08)
    footage, _ = read_video(late)
    for index in (0, 40, SPOKEN - 1):
        assert np.abs(frames[index, :HEIGHT] - footage[index]).mean() < 3
        drawn, wanted = frames[index, HEIGHT:].ravel(), strip(expected, index, WIDTH, STRIP).ravel()
        assert np.corrcoef(drawn, wanted)[0, 1] > 0.6  # encoded, and measured with another OpenCV perhaps


def test_pictures_with_a_sound_become_pictures(server: Any, late: Path, new_graph: Any) -> None:
    graph = new_graph(file=late.name)
    graph.add("parts", "GetVideoComponents", video=["footage", 0])
    add_measure(graph, ("parts", 0), audio=["parts", 1])
    graph.add("save_frames", "SaveImage", images=["measure", 1], filename_prefix="measured")
    result = server.run(graph.prompt)
    assert texts(result)[1] == pytest.approx(LATE, abs=0.7)
    paths = server.files(result, "save_frames")
    assert len(paths) == SPOKEN
    with FrameSource.open(late) as footage, Image.open(paths[40]) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
        assert picture.shape == (HEIGHT + STRIP, WIDTH, 3)
        assert np.abs(picture[:HEIGHT] - footage[40]).mean() < 3
    # Mouth and sound, in their colours, and the line of the present frame.
    for colour in ((255, 170, 60), (90, 180, 255), (235, 235, 235)):
        assert (np.abs(picture[HEIGHT:] - colour).max(axis=-1) < 30).any(), colour


def test_without_sound_the_report_says_why(server: Any, new_graph: Any) -> None:
    graph = new_graph(file="two_people.mp4")
    add_measure(graph)
    report, offset, correlation = texts(server.run(graph.prompt))
    assert (offset, correlation) == (0, 0)
    assert "Mouth and sound: not measured (" in report


def test_frames_of_a_video_are_refused_where_they_are_wanted(server: Any, new_graph: Any) -> None:
    graph = new_graph(file="two_people.mp4")
    add_measure(graph)
    graph.add("save_frames", "SaveImage", images=["measure", 1], filename_prefix="never")
    result = server.wait(server.queue(graph.prompt))
    assert "save_frames" not in result.outputs and "report" in result.outputs


def test_a_missing_syncnet_is_told_before_anything_is_measured(server: Any, new_graph: Any) -> None:
    graph = new_graph(file="two_people.mp4")
    add_measure(graph, syncnet="auto")
    message = server.fails(graph.prompt)
    assert "there is no SyncNet" in message and "latentsync_syncnet.pt" in message


def test_a_file_that_is_no_syncnet_is_refused(server: Any, new_graph: Any) -> None:
    path = server.base / "models" / "musetalk" / "syncnet" / "latentsync_syncnet.pt"
    path.parent.mkdir()
    try:
        torch.save({"weight": torch.zeros(3)}, path)
        assert f"syncnet/{path.name}" in options(
            server.call("/object_info/MuseTalkMeasureSync"), "MuseTalkMeasureSync", "syncnet"
        )
        graph = new_graph(file="two_people.mp4")
        add_measure(graph, syncnet="auto")
        assert "not the LatentSync SyncNet" in server.fails(graph.prompt)
    finally:
        shutil.rmtree(path.parent)


def test_interrupt_stops_the_drawing_and_leaves_nothing(server: Any, late: Path, new_graph: Any) -> None:
    graph = new_graph(file=late.name)
    graph.add("parts", "GetVideoComponents", video=["footage", 0])
    graph.add("many", "RepeatImageBatch", image=["parts", 0], amount=8)
    add_measure(graph, ("many", 0), audio=["parts", 1])
    temp = server.base / "temp"
    before = set(temp.iterdir())
    prompt_id = server.queue(graph.prompt)
    deadline = time.monotonic() + 60
    while not any(path.name.startswith(".musetalk-") for path in temp.iterdir()):  # the encoder's file
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.call("/interrupt", {})
    result = server.wait(prompt_id)
    assert "execution_interrupted" in result.messages and result.status == "error"
    assert set(temp.iterdir()) == before
