"""The pack in ComfyUI's page, on the canvas and as Vue nodes: workflows open, the shift line sets ``bbox_shift``.

Needs what ``in_browser`` needs, see tests/conftest.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = Path(__file__).parent / "browser" / "check.mjs"
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
# What the node reports about the frame: see js/lib/face_boxes.js.
BOX = {
    "filename": "astronaut.png",
    "subfolder": "",
    "type": "input",
    "width": 512,
    "height": 512,
    "frame": 3,
    "box": [175, 61, 277, 175],
    "margin": 10,
    "middle": 113,
    "up": 9,
    "down": 11,
}


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "vue"])
def seen(request: pytest.FixtureRequest, in_browser: Callable[[Path, Any], Any], server: Any) -> dict[str, Any]:
    """What happened in the page: one browser session for all tests of a rendering mode."""
    shift = 3 if request.param else 2  # not the same twice: a node that is cached as a whole reports nothing
    for name in ("astronaut.png", "speech.wav"):
        shutil.copy(ROOT / "demo" / name, server.base / "input")
    shutil.copy(ROOT / "demo" / "speech.wav", server.base / "input" / "speech_2.wav")
    prompt = {
        "1": {"class_type": "MuseTalkLoadModels", "inputs": {}},
        "2": {"class_type": "LoadVideo", "inputs": {"file": "talk.mp4"}},
        "3": {
            "class_type": "MuseTalkPrepareAvatar",
            "inputs": {"frames": ["2", 0], "vae": ["1", 1], "face_models": ["1", 3], "bbox_shift": shift},
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}},
    }
    wanted = {
        "url": server.address,
        "vue": request.param,
        "workflows": {path.stem: json.loads(path.read_text("utf-8")) for path in WORKFLOWS},
        "box": BOX,
        "run": prompt,
    }
    return {"shift": shift, **in_browser(CHECK, wanted)}


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_workflow_opens_without_missing_nodes_or_errors(seen: dict[str, Any], name: str) -> None:
    opened = seen["workflows"][name]
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))
    assert opened["missing"] == []
    assert opened["errors"] == []
    assert sorted(opened["types"]) == sorted(node["type"] for node in graph["nodes"])


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_page_sends_what_the_api_workflow_says(seen: dict[str, Any], name: str) -> None:
    expected = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    sent = seen["workflows"][name]["prompt"]
    assert sent.keys() == expected.keys()
    for key, node in expected.items():
        if node["class_type"].startswith("MuseTalk"):
            assert sent[key]["inputs"] == node["inputs"], f"node {key}, {node['class_type']}"


def test_all_nodes_survive_saving_and_opening(seen: dict[str, Any]) -> None:
    nodes = seen["allNodes"]
    assert len(nodes["types"]) == 14
    assert nodes["after"] == nodes["before"]
    assert len(nodes["before"]["links"]) > 20
    assert nodes["errors"] == []


def test_shift_line_moves_the_widget_and_follows_it(seen: dict[str, Any]) -> None:
    line = seen["shiftLine"]
    shifts = {step["what"]: step["widget"] for step in line["shifts"]}
    for step in line["shifts"]:
        assert step["widget"] == step["prompt"] == step["line"], step
    dragged = shifts["dragged down"]
    assert shifts["shown"] == 0 and dragged > 5
    assert shifts["ArrowUp"] == dragged - 1
    assert shifts["Shift+ArrowDown"] == dragged + 9
    assert (shifts["Home"], shifts["End"]) == (-BOX["up"], BOX["down"])
    assert shifts["typed"] == -5
    assert shifts["dragged at 60 %"] > -5
    assert line["errors"] == []


def test_shift_line_adds_nothing_to_prompt_or_workflow(seen: dict[str, Any]) -> None:
    inputs = seen["shiftLine"]["shifts"][0]["promptInputs"]
    assert "shift_line" not in inputs
    assert seen["shiftLine"]["shifts"][0]["storedValues"] == len(inputs)


def test_shift_line_leaves_the_node_where_it_is(seen: dict[str, Any]) -> None:
    line = seen["shiftLine"]
    assert line["dragged"] == line["shown"]
    assert line["shown"]["pos"] == line["empty"]["pos"]
    assert min(line["shown"]["stage"]) > 150
    assert line["leftAfterRemoval"] == 0


def test_undo_takes_back_one_step_and_keeps_the_picture(seen: dict[str, Any]) -> None:
    shifts = {step["what"]: step["widget"] for step in seen["shiftLine"]["shifts"]}
    assert shifts["before undo"] == shifts["key undone"] + 1 == 1 - BOX["up"]
    assert shifts["drag undone"] == BOX["down"]


def test_run_from_the_page_shows_the_face(seen: dict[str, Any]) -> None:
    run = seen["run"]
    assert run["shown"], "Prepare Avatar reported no face boxes (ui output musetalk_boxes)"
    assert run["size"] == [384, 320]
    assert "(1/8)" in run["bar"] and f"+{seen['shift']} px" in run["bar"]
    assert run["errors"] == []
