"""Graphs made with older MuseTalk packs, on a real ComfyUI server that has none of them."""

from __future__ import annotations

import json
import urllib.error
from typing import Any

import pytest


@pytest.fixture(scope="module")
def object_info(server: Any) -> dict[str, Any]:
    return server.call("/object_info")


@pytest.fixture(scope="module")
def replacements(server: Any, object_info: dict[str, Any]) -> dict[str, Any]:
    """This pack's, by old node id."""
    try:
        found = server.call("/node_replacements")
    except urllib.error.HTTPError as error:
        assert error.code == 404
        pytest.skip("this ComfyUI replaces no nodes; the pack loads all the same")
    own = {old: entries[0] for old, entries in found.items() if old not in object_info}
    return {old: entry for old, entry in own.items() if "muse" in json.dumps(entry).lower() or old in OTHERS}


OTHERS = {"whisper_to_features", "vhs_audio_to_audio_tensor", "PreViewVideo"}
OLD_NODES = {
    "MuseTalkRun",
    "MuseTalkCupAudio",
    "muse_talk_model_loader",
    "UNETLoader_MuseTalk",
    "muse_talk_process",
    "muse_talk_sampler",
    "MuseTalk",
    "MuseTalkPreprocess",
    "MuseTalkPostprocess",
    "MuseAudioFeatureExtractionNode",
    "MuseImageFeatureExtractionNode",
    "MuseTalkNode",
    *OTHERS,
}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": class_type}}


def test_every_old_node_has_a_successor(replacements):
    assert set(replacements) == OLD_NODES


def test_mappings_name_what_the_new_nodes_have(replacements, object_info):
    for old, entry in replacements.items():
        info = object_info[entry["new_node_id"]]
        inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
        for mapping in entry["input_mapping"] or []:
            assert mapping["new_id"] in inputs, (old, mapping)
        for mapping in entry["output_mapping"] or []:
            assert mapping["new_idx"] < len(info["output"]), (old, mapping)


def test_widget_positions_name_the_old_inputs_that_move(replacements):
    """A saved graph has values by position only: what is not a link must be found among them."""
    moved = {
        "MuseTalkRun": {"bbox_shift", "batch_size"},
        "muse_talk_sampler": {"batch_size"},
        "whisper_to_features": {"fps"},
        "MuseTalk": {"bbox_shift", "batch_size"},
    }
    for old, names in moved.items():
        assert names <= set(replacements[old]["old_widget_ids"])
        assert names <= {mapping.get("old_id") for mapping in replacements[old]["input_mapping"]}


def test_an_old_graph_says_only_what_is_left_to_connect(replacements, server):
    """AIFSH's node in a graph of core nodes: footage, voice and settings move over, models are asked for."""
    prompt = {
        "1": node("LoadVideo", file="talk.mp4"),
        "2": node("LoadAudio", audio="voice.wav"),
        "3": node(
            "MuseTalk",
            video=["1", 0],
            audio=["2", 0],
            bbox_shift=5,
            fps=25,
            batch_size=4,
            batch_size_fa=2,
            use_saved_coord=False,
        ),
        "4": node("PreViewVideo", video=["3", 0]),
    }
    reasons = json.loads(server.refused(prompt))["node_errors"]
    assert set(reasons) == {"3"} and reasons["3"]["class_type"] == "MuseTalkLipSyncVideo"
    missing = {error["extra_info"]["input_name"] for error in reasons["3"]["errors"]}
    assert missing == {"model", "vae", "audio_encoder", "face_models"}


def test_a_graph_with_old_nodes_runs(replacements, server):
    """kijai's loader and sound converter and AIFSH's preview around this pack's node, run to a finished file."""
    prompt = {
        "1": node("LoadVideo", file="talk.mp4"),
        "2": node("LoadAudio", audio="voice.wav"),
        "3": node("vhs_audio_to_audio_tensor", vhs_audio=["2", 0], target_sample_rate=16000, target_channels=1),
        "4": node("UNETLoader_MuseTalk"),
        "5": node(
            "MuseTalk",
            video=["1", 0],
            audio=["3", 0],
            bbox_shift=5,
            fps=25,
            batch_size=4,
            batch_size_fa=2,
            use_saved_coord=False,
        ),
        "6": node("PreViewVideo", video=["5", 0]),
    }
    # What the user connects after the swap.
    entry = replacements["MuseTalk"]
    values = {mapping["new_id"]: mapping["set_value"] for mapping in entry["input_mapping"] if "set_value" in mapping}
    old = prompt["5"]["inputs"]
    moved = {mapping["new_id"]: old[mapping["old_id"]] for mapping in entry["input_mapping"] if "old_id" in mapping}
    models = {"model": ["4", 0], "vae": ["4", 1], "audio_encoder": ["4", 2], "face_models": ["4", 3]}
    prompt["5"] = node(entry["new_node_id"], **values, **moved, **models)
    result = server.run(prompt)
    (path,) = server.files(result, "6")
    assert path.is_file()
