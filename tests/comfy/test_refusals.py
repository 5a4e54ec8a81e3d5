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


def speaking(graph: Any, audio: Any = None, **inputs: Any) -> Any:
    graph.add_lipsync(audio=audio, **inputs)
    return graph.prompt


def test_inputs_that_contradict_each_other(server: Any, new_graph: Any) -> None:
    voice, segments = ["voice", 0], "segments: [{person: 0, start: 0, end: 1}]"
    for inputs, reason in (
        ({"audio": voice, "speaker_0": voice}, "audio and speaker_0 are connected"),
        ({"speaker_1": voice, "speaker_map": segments}, "leave out speaker_1"),
        ({"speaker_map": segments}, "connect audio"),
        ({"audio": voice, "select": "reference"}, "connect a picture of the person"),
        ({"speaker_3": voice}, "person 3"),
    ):
        assert reason in server.fails(speaking(new_graph(), **inputs)), inputs


def test_faces_are_told_once(server: Any, graph: Any) -> None:
    graph.add("detector", "TestDetector", found="{}")
    faces = {"landmarks": ["detector", 1], "boxes": ["detector", 2]}
    assert "landmarks and boxes all say where the faces are" in server.fails(speaking(graph, ("voice", 0), **faces))


def test_an_avatar_takes_no_preparation(server: Any, graph: Any) -> None:
    graph.add("white", "SolidMask", value=1.0, width=8, height=8)
    graph.add("avatar", "MuseTalkPrepareAvatar", frames=["footage", 0], vae=["models", 1], face_models=["models", 3])
    message = server.fails(speaking(graph, ("voice", 0), video=("avatar", 0), mask=["white", 0]))
    assert "mask: these belong to Prepare Avatar" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [("segments: [", "cannot read speaker_map"), ("segments: [{person: 0, start: 2, end: 1}]", "ends at 1 s")],
)
def test_a_bad_speaker_map_is_refused_before_anything_runs(server: Any, graph: Any, text: str, reason: str) -> None:
    speaking(graph, ("voice", 0), speaker_map=text)
    refused(server, graph, "save_video", reason)


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
