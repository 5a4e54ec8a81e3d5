"""What the nodes refuse on a real ComfyUI server, and what they say then."""

from __future__ import annotations

from typing import Any

import pytest


def test_errors_say_what_to_do(server: Any, new_graph: Any) -> None:
    graph = new_graph()
    graph.add("grey", "EmptyImage", width=320, height=320, batch_size=2, color=0x808080)
    graph.add_stages(frames=("grey", 0))
    assert "no face found in any of the 2 frames" in server.fails(graph.prompt)

    graph = new_graph()
    graph.add_stages()
    graph.add("sound", "MuseTalkAudioFeatures", audio=["voice", 0], audio_encoder=["models", 2], fps=30.0)
    assert "connect the avatar to Whisper Audio Features" in server.fails(graph.prompt)

    graph = new_graph()
    graph.add_stages(version="v1")
    assert "prepared for MuseTalk v1, the model is v15" in server.fails(graph.prompt)

    graph = new_graph()
    graph.add_lipsync(video=("still", 0), audio=None)
    graph.add("still", "EmptyImage", width=64, height=64, batch_size=1, color=0)
    assert "no sound was given" in server.fails(graph.prompt)


def test_models_that_are_missing_are_listed(server: Any, graph: Any) -> None:
    graph.add("models", "MuseTalkLoadModels", version="v1")
    graph.add_lipsync()
    message = server.fails(graph.prompt)
    assert "models are missing" in message and "download" in message


def test_a_chosen_file_of_the_wrong_kind_is_named(server: Any, graph: Any) -> None:
    # ComfyUI checks names against the list, which leaves out what is plainly something else.
    (server.base / "models" / "musetalk" / "mystery.pth").symlink_to("sd-vae/diffusion_pytorch_model.bin")
    graph.add("models", "MuseTalkLoadModels", unet="mystery.pth")
    graph.add_lipsync()
    message = server.fails(graph.prompt)
    assert "mystery.pth: expected" in message and "found" in message


def refused(server: Any, graph: Any, saves: str, reason: str) -> None:
    """The graph, whose only output node is ``saves``, is refused for this reason before anything runs."""
    graph.prompt = {name: node for name, node in graph.prompt.items() if name == saves or "save" not in name}
    assert reason in server.refused(graph.prompt)


def test_bad_names_are_refused_before_anything_runs(server: Any, graph: Any) -> None:
    graph.add_stages()
    graph.add("save_avatar", "MuseTalkSaveAvatar", avatar=["avatar", 0], filename_prefix="../outside")
    refused(server, graph, "save_avatar", "give a plain name")


@pytest.mark.parametrize(
    ("widgets", "reason"),
    [({"bbox_shifts": "a, b"}, "list whole numbers"), ({"parsing_modes": "chin"}, "list some of jaw, raw, neck")],
)
def test_bad_lists_are_refused_before_anything_runs(
    server: Any, graph: Any, widgets: dict[str, Any], reason: str
) -> None:
    links = {name: ["models", index] for index, name in enumerate(("model", "vae", "audio_encoder", "face_models"))}
    graph.add("tune", "MuseTalkTune", frames=["footage", 0], audio=["voice", 0], **links, **widgets)
    graph.add("save_sheet", "PreviewImage", images=["tune", 0])
    refused(server, graph, "save_sheet", reason)


@pytest.mark.parametrize(
    ("inputs", "reason"), [({"batch_size": 0}, "smaller than min"), ({"model": ["models", 1]}, "mismatch")]
)
def test_cores_own_checks_still_hold(server: Any, graph: Any, inputs: dict[str, Any], reason: str) -> None:
    graph.add_stages()
    graph.prompt["unet"]["inputs"].update(inputs)
    refused(server, graph, "save_frames", reason)
