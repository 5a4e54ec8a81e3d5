"""The English texts are those of the nodes, and the server hands out all languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def nodes(server: Any) -> dict[str, Any]:
    info = server.call("/object_info")
    return {name: node for name, node in info.items() if name.startswith("MuseTalk")}


@pytest.fixture(scope="module")
def english() -> dict[str, Any]:
    return json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))


def test_every_node_has_texts(nodes: dict[str, Any], english: dict[str, Any]) -> None:
    assert nodes.keys() == english.keys()
    for name, node in nodes.items():
        assert english[name]["display_name"] == node["display_name"]
        assert english[name]["description"] == node["description"]


def test_every_input_has_texts(nodes: dict[str, Any], english: dict[str, Any]) -> None:
    for name, node in nodes.items():
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        expected = {key: {"name": key, "tooltip": settings["tooltip"]} for key, (_, settings) in inputs.items()}
        assert english[name]["inputs"] == expected, name


def test_every_output_has_texts(nodes: dict[str, Any], english: dict[str, Any]) -> None:
    for name, node in nodes.items():
        labels = zip(node["output_name"], node["output_tooltips"], strict=True)
        expected = {
            str(place): {"name": label, **({"tooltip": tooltip} if tooltip else {})}
            for place, (label, tooltip) in enumerate(labels)
        }
        assert english[name]["outputs"] == expected, name


def test_server_hands_out_texts_and_help(nodes: dict[str, Any], server: Any) -> None:
    languages = server.call("/i18n")
    for language in ("en", "zh", "ja"):
        assert nodes.keys() <= languages[language]["nodeDefs"].keys()
    extension = next(path for path in server.call("/extensions") if path.endswith("/musetalk.js"))
    assert extension.startswith("/extensions/")
