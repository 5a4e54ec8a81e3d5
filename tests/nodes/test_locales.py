"""Names, tooltips and help pages: the three languages say the same things, in a form ComfyUI's page can read.

That they cover the nodes' real inputs and outputs is tested on a server: tests/comfy/test_locales.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "zh", "ja")
SECTIONS = 5  # when to use, inputs, outputs, wiring, troubleshooting
# vue-i18n takes these for placeholders, links to other texts, and plurals.
UNREADABLE = re.compile(r"[{}@|]")
CJK = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
KANA = re.compile(r"[\u3040-\u30ff]")


def read(language: str, name: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text("utf-8"))


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from texts(part, f"{path}/{key}")
    else:
        yield path, value


@pytest.mark.parametrize("name", ["main", "nodeDefs"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text(language: str, name: str) -> None:
    there = dict(texts(read(language, name)))
    assert there.keys() == dict(texts(read("en", name))).keys()
    for path, text in there.items():
        assert isinstance(text, str) and text.strip() == text and text, path
        assert not UNREADABLE.search(text), f"{path}: {text}"


@pytest.mark.parametrize(("language", "script"), [("zh", CJK), ("ja", KANA)])
def test_tooltips_are_translated(language: str, script: re.Pattern[str]) -> None:
    for path, text in texts(read(language, "nodeDefs")):
        if path.endswith(("/tooltip", "/description")):
            assert script.search(text), f"{path}: {text}"


def test_chinese_has_no_japanese() -> None:
    for path, text in texts(read("zh", "nodeDefs")):
        assert not KANA.search(text), path


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node", sorted(read("en", "nodeDefs")))
def test_help_page_explains_every_input_and_output(node: str, language: str) -> None:
    names = read(language, "nodeDefs")[node]
    page = (ROOT / "js" / "docs" / node / f"{language}.md").read_text("utf-8")
    assert page.startswith(f"# {names['display_name']}\n")
    assert page.count("\n## ") == SECTIONS
    sections = page.split("\n## ")
    explained = [re.findall(r"^- \*\*.*?`(\w+)`\*\*", section, re.MULTILINE) for section in sections[2:4]]
    outputs = [output["name"] for output in read("en", "nodeDefs")[node]["outputs"].values()]
    assert explained == [list(names["inputs"]), outputs]
    for bullets in (sections[1], sections[5]):
        assert "\n- " in bullets


def test_help_pages_are_of_known_nodes() -> None:
    pages = {path.relative_to(ROOT / "js" / "docs").as_posix() for path in (ROOT / "js" / "docs").rglob("*.*")}
    assert pages == {f"{node}/{language}.md" for node in read("en", "nodeDefs") for language in LANGUAGES}
