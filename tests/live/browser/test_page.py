"""The page of ``musetalk live`` and what its addresses mean, in a browser that lets no page sound before a click."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("page.mjs")


@pytest.fixture(scope="module")
def seen(in_browser: Callable[[Path, Any], Any], address: str) -> dict[str, Any]:
    pictures = os.environ.get("MUSETALK_SCREENSHOTS")
    return in_browser(SCRIPT, {"url": address, "avatar": "ada", "pictures": pictures})


def test_address_chooses_the_avatar(seen: dict[str, Any]) -> None:
    assert seen["known"]["chosen"] == "ada" and seen["known"]["startable"]
    assert "ada" not in seen["known"]["notice"]


def test_avatar_that_is_not_there_is_named_and_nothing_breaks(seen: dict[str, Any]) -> None:
    assert "<b>nobody" in seen["unknown"]["notice"]
    assert seen["unknown"]["chosen"] == "ada" and seen["unknown"]["startable"]
    assert seen["errors"] == []


def test_clean_view_plays_before_anybody_has_clicked(seen: dict[str, Any]) -> None:
    untouched = seen["clean"]["untouched"]
    assert untouched["time"] > 1 and not untouched["paused"] and untouched["muted"]


def test_clean_view_shows_a_hint_and_then_the_picture_alone(seen: dict[str, Any]) -> None:
    assert seen["clean"]["untouched"]["texts"] == ["Click for sound"]
    assert seen["clean"]["later"]["texts"] == [] and seen["clean"]["later"]["muted"]


def test_clean_view_sounds_after_a_click(seen: dict[str, Any]) -> None:
    assert not seen["clean"]["on"]["muted"] and not seen["clean"]["on"]["paused"]
