"""Every node through a real ComfyUI server, against the engine on the same inputs and weights.

The UNet, the audio encoder and the pasting must equal the engine's to the bit. The VAE is ComfyUI's own
implementation, which sums in another order: latents and faces may differ by rounding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from musetalk import Avatar, FrameSource, audio_features, decode_faces, inpaint, lipsync, load_models, paste_back
from musetalk import prepare_avatar as prepare_with_engine
from musetalk.audio.source import AudioSource
from musetalk.avatar_file import load_avatar
from musetalk.latents import SCALING_FACTOR
from musetalk.playback import source_indices

FRAMES = 20  # 0.8 s of voice at 25 fps, over footage of 12 frames
SIZE = (384, 320)

NODES = (
    "MuseTalkLoadModels",
    "MuseTalkPrepareAvatar",
    "MuseTalkAudioFeatures",
    "MuseTalkInpaint",
    "MuseTalkDecodePasteBack",
    "MuseTalkPasteBack",
    "MuseTalkSaveAvatar",
    "MuseTalkLoadAvatar",
    "MuseTalkLipSyncVideo",
    "MuseTalkTune",
    "MuseTalkFindFaces",
    "MuseTalkApplyLoRA",
    "MuseTalkMeasureSync",
)


def read_pictures(paths: list[Path]) -> np.ndarray:
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return np.stack(pictures)


@dataclass(frozen=True)
class Run:
    """Everything the stage-by-stage graph made, read back."""

    prompt: dict[str, Any]
    avatar: Avatar
    latents: torch.Tensor
    frames: np.ndarray
    faces: np.ndarray
    pasted: np.ndarray
    masks: np.ndarray
    preview: np.ndarray
    texts: dict[str, str]


@pytest.fixture(scope="module")
def run(server: Any, new_graph: Any) -> Run:
    graph = new_graph(face_parser="auto")
    graph.add_stages()
    graph.add("save_latent", "SaveLatent", samples=["unet", 0], filename_prefix="latent")
    graph.add("save_faces", "SaveImage", images=["decode", 1], filename_prefix="faces")
    graph.add("mask_image", "MaskToImage", mask=["decode", 2])
    graph.add("save_masks", "SaveImage", images=["mask_image", 0], filename_prefix="masks")
    graph.add("paste", "MuseTalkPasteBack", avatar=["avatar", 0], faces=["decode", 1])
    graph.add("save_pasted", "SaveImage", images=["paste", 0], filename_prefix="pasted")
    graph.add("save_preview", "SaveImage", images=["avatar", 1], filename_prefix="preview")
    graph.add("save_avatar", "MuseTalkSaveAvatar", avatar=["avatar", 0])
    graph.add("folder", "PreviewAny", source=["save_avatar", 0])
    graph.add("range", "PreviewAny", source=["avatar", 2])
    graph.add("fps", "PreviewAny", source=["sound", 1])
    graph.add("count", "PreviewAny", source=["sound", 2])
    result = server.run(graph.prompt)
    texts = {node: result.outputs[node]["text"][0] for node in ("folder", "range", "fps", "count")}
    folder = server.base / "output" / "musetalk" / "avatars" / texts["folder"].removesuffix(" [output]")
    pictures = {
        node: read_pictures(server.files(result, node))
        for node in ("save_frames", "save_faces", "save_pasted", "save_masks", "save_preview")
    }
    return Run(
        prompt=graph.prompt,
        avatar=load_avatar(folder),
        latents=load_file(server.files(result, "save_latent")[0])["latent_tensor"],
        frames=pictures["save_frames"],
        faces=pictures["save_faces"],
        pasted=pictures["save_pasted"],
        masks=pictures["save_masks"],
        preview=pictures["save_preview"],
        texts=texts,
    )


@pytest.fixture(scope="module")
def engine(core_models_dir: Path) -> Any:
    return load_models(core_models_dir, device="cpu")


def test_every_node_is_there_and_every_input_explained(object_info: dict[str, Any]) -> None:
    for name in NODES:
        node = object_info[name]
        assert node["category"].startswith("MuseTalk") and node["description"]
        for inputs in (node["input"].get("required", {}), node["input"].get("optional", {})):
            for key, (_, *options) in inputs.items():
                assert options and options[0].get("tooltip"), f"{name}.{key} has no tooltip"


def test_avatar_is_the_engines(run: Run, engine: Any, clip: Path) -> None:
    expected = prepare_with_engine(engine, FrameSource.open(clip))
    assert np.array_equal(run.avatar.track.boxes, expected.track.boxes)
    assert run.avatar.profile == expected.profile
    assert [mask.region for mask in run.avatar.masks] == [mask.region for mask in expected.masks]
    assert all(
        np.array_equal(ours.alpha, theirs.alpha) for ours, theirs in zip(run.avatar.masks, expected.masks, strict=True)
    )
    assert (run.avatar.latents - expected.latents).abs().max() < 1e-3
    assert "bbox_shift is useful from" in run.texts["range"]
    assert run.preview.shape == (8, *SIZE[::-1], 3)


def test_latents_are_the_engines_to_the_bit(run: Run, engine: Any, server: Any) -> None:
    sound = AudioSource.open(server.base / "input" / "voice.wav")
    waveform = np.concatenate(list(sound.blocks()), axis=1)
    features = audio_features(engine, waveform, sound.sample_rate, fps=run.avatar.frames.fps)
    expected = inpaint(engine, run.avatar, features) / SCALING_FACTOR
    assert run.latents.shape == (FRAMES, 4, 32, 32)
    assert torch.equal(run.latents, expected)
    assert float(run.texts["fps"]) == 25 and int(run.texts["count"]) == FRAMES


def test_faces_and_frames_are_the_engines(run: Run, engine: Any) -> None:
    expected = decode_faces(engine, run.latents * SCALING_FACTOR)
    assert np.abs(run.faces.astype(int) - expected).max() <= 1
    pasted = np.concatenate(list(paste_back(run.avatar, run.faces)))
    assert np.array_equal(run.frames, pasted)
    assert np.array_equal(run.pasted, pasted)


def test_pixels_outside_the_mask_are_the_footage(run: Run) -> None:
    sources = source_indices(0, FRAMES, len(run.avatar.frames))
    footage = run.avatar.frames.read(sources)
    outside = run.masks[..., 0] == 0
    assert run.frames.shape == footage.shape == (FRAMES, *SIZE[::-1], 3)
    assert 0.5 < outside.mean() < 1
    assert np.array_equal(run.frames[outside], footage[outside])
    assert (run.frames[~outside] != footage[~outside]).any()


def test_second_run_is_all_cached(run: Run, server: Any) -> None:
    assert server.run(run.prompt).cached == set(run.prompt)


def test_models_unloaded_between_prompts_give_the_same_pixels(run: Run, server: Any, graph: Any) -> None:
    graph.add("models", "MuseTalkLoadModels")
    graph.add_stages()
    server.call("/free", {"unload_models": True, "free_memory": True})
    time.sleep(2)  # the queue's thread does it when it next wakes
    result = server.run(graph.prompt)
    assert "models" not in result.cached and "unet" not in result.cached
    assert np.array_equal(read_pictures(server.files(result, "save_frames")), run.frames)


def test_loaded_avatar_gives_the_same_latents(run: Run, server: Any, graph: Any) -> None:
    graph.add_stages()
    graph.info = server.call("/object_info")
    assert run.texts["folder"] in graph.info["MuseTalkLoadAvatar"]["input"]["required"]["avatar"][1]["options"]
    graph.add("avatar", "MuseTalkLoadAvatar", avatar=run.texts["folder"])
    graph.add("save_latent", "SaveLatent", samples=["unet", 0], filename_prefix="again")
    result = server.run(graph.prompt)
    assert torch.equal(load_file(server.files(result, "save_latent")[0])["latent_tensor"], run.latents)


def test_images_in_memory_and_a_video_give_the_same(run: Run, server: Any, graph: Any) -> None:
    graph.add("models", "MuseTalkLoadModels")
    graph.add("parts", "GetVideoComponents", video=["footage", 0])
    graph.add_stages(frames=("parts", 0))
    frames = read_pictures(server.files(server.run(graph.prompt), "save_frames"))
    # ComfyUI and the engine turn YUV into RGB a little differently.
    assert frames.shape == run.frames.shape
    assert np.abs(frames.astype(int) - run.frames).mean() < 3


def test_black_mask_keeps_the_footage(run: Run, server: Any, graph: Any) -> None:
    graph.add("nothing", "SolidMask", value=0.0, width=64, height=64)
    graph.add_stages(mask=["nothing", 0])
    frames = read_pictures(server.files(server.run(graph.prompt), "save_frames"))
    assert np.array_equal(frames, run.avatar.frames.read(source_indices(0, FRAMES, len(run.avatar.frames))))


def test_bounding_box_of_another_node(server: Any, graph: Any) -> None:
    if "PrimitiveBoundingBox" not in graph.info:
        pytest.skip("this ComfyUI has no node that makes a BOUNDING_BOX")
    graph.add("box", "PrimitiveBoundingBox", x=100, y=90, width=120, height=150)
    graph.add_stages(boxes=["box", 0], extra_margin=0)
    graph.add("save_avatar", "MuseTalkSaveAvatar", avatar=["avatar", 0], filename_prefix="boxed/given")
    server.run(graph.prompt)
    avatar = load_avatar(server.base / "output" / "musetalk" / "avatars" / "boxed" / "given_00001_")
    assert (avatar.track.boxes == [100, 90, 220, 240]).all()


def check_video(path: Path, frames: int) -> np.ndarray:
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 25
        assert len(container.streams.audio) == 1
    with FrameSource.open(path) as source:
        assert (len(source), source.size) == (frames, SIZE)
        return source[:]


def test_lip_sync_video_is_the_engines(server: Any, graph: Any, engine: Any, clip: Path, tmp_path: Path) -> None:
    graph.add_lipsync()
    result = server.run(graph.prompt)
    frames = check_video(server.files(result, "save_video")[0], FRAMES)
    without_parser = replace(engine, face_parser=None)
    lipsync(without_parser, clip, server.base / "input" / "voice.wav", tmp_path / "expected.mp4")
    expected = check_video(tmp_path / "expected.mp4", FRAMES)
    assert np.abs(frames.astype(int) - expected).mean() < 0.5
    assert f"{FRAMES} frames of {SIZE[0]}x{SIZE[1]} at 25 fps" in result.outputs["report"]["text"][0]


def test_lip_sync_with_the_videos_own_sound(server: Any, graph: Any) -> None:
    graph.add_lipsync(audio=None)
    check_video(server.files(server.run(graph.prompt), "save_video")[0], 12)


def test_lip_sync_of_a_video_that_is_no_file(server: Any, graph: Any) -> None:
    graph.add("parts", "GetVideoComponents", video=["footage", 0])
    graph.add("made", "CreateVideo", images=["parts", 0], audio=["parts", 1], fps=25.0)
    graph.add_lipsync(video=("made", 0), audio=None)
    check_video(server.files(server.run(graph.prompt), "save_video")[0], 12)


def test_lip_sync_of_a_trimmed_video(server: Any, graph: Any) -> None:
    if "Video Slice" not in graph.info:
        pytest.skip("this ComfyUI has no node that trims a video")
    graph.add("cut", "Video Slice", video=["footage", 0], start_time=0.08, duration=0.24)
    graph.add_lipsync(video=("cut", 0), loop="cut")
    check_video(server.files(server.run(graph.prompt), "save_video")[0], 6)


def test_lip_sync_of_a_still(server: Any, graph: Any) -> None:
    graph.add("parts", "GetVideoComponents", video=["footage", 0])
    graph.add("still", "ImageFromBatch", image=["parts", 0], batch_index=0, length=1)
    graph.add_lipsync(video=("still", 0))
    check_video(server.files(server.run(graph.prompt), "save_video")[0], FRAMES)


def test_lip_sync_of_an_avatar(run: Run, server: Any, graph: Any) -> None:
    graph.info = server.call("/object_info")
    graph.add("saved", "MuseTalkLoadAvatar", avatar=run.texts["folder"])
    graph.add_lipsync(video=("saved", 0), loop="cut")
    check_video(server.files(server.run(graph.prompt), "save_video")[0], 12)


def test_tune_makes_a_labelled_sheet(server: Any, graph: Any) -> None:
    graph.add(
        "tune",
        "MuseTalkTune",
        frames=["footage", 0],
        audio=["voice", 0],
        model=["models", 0],
        vae=["models", 1],
        audio_encoder=["models", 2],
        face_models=["models", 3],
        bbox_shifts="-5, 5",
        parsing_modes="jaw, raw",
        vary="blur_ratio",
        vary_values="0.02, 0.2",
        frame_count=2,
        tile_size=128,
    )
    graph.add("save_sheet", "SaveImage", images=["tune", 0], filename_prefix="sheet")
    graph.add("range", "PreviewAny", source=["tune", 1])
    result = server.run(graph.prompt)
    sheet = read_pictures(server.files(result, "save_sheet"))[0]
    assert sheet.shape == (4 * 128, 4 * 128, 3)  # 2 shifts x 2 values, 2 modes x 2 moments
    tiles = sheet.reshape(4, 128, 4, 128, 3).swapaxes(1, 2)
    assert (tiles[0] != tiles[2]).any() and (tiles[0] != tiles[1]).any()
    assert "bbox_shift is useful from" in result.outputs["range"]["text"][0]


def test_interrupt_stops_within_a_batch_and_leaves_nothing(server: Any, new_graph: Any) -> None:
    graph = new_graph()
    graph.add("voice", "LoadAudio", audio="long.wav")
    graph.add_lipsync(batch_size=2)
    before = set((server.base / "temp").iterdir())
    prompt_id = server.queue(graph.prompt)
    # The hidden file of the encoder is there once frames are being made.
    wait_for(lambda: any(path.name.startswith(".musetalk-") for path in (server.base / "temp").iterdir()))
    time.sleep(1)
    pressed = time.monotonic()
    server.call("/interrupt", {})
    result = server.wait(prompt_id)
    assert "execution_interrupted" in result.messages and result.status == "error"
    assert time.monotonic() - pressed < 5
    assert set((server.base / "temp").iterdir()) == before
    following = new_graph()
    following.add_lipsync(audio=None, crf=30)
    check_video(server.files(server.run(following.prompt), "save_video")[0], 12)


def wait_for(condition: Any, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
