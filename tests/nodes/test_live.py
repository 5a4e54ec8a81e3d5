"""The live panel and what it is made of agree, without a browser and without ComfyUI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "js" / "lib"
PAGE = ROOT / "musetalk" / "live" / "page"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def messages() -> dict[str, set[str]]:
    """The names of the panel's texts, by language."""
    parts = re.split(r"^  (\w\w): \{$", read(LIB / "live_messages.js"), flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    return {language: set(re.findall(r"^    (\w+):", text, re.MULTILINE)) for language, text in found}


def test_every_language_says_everything_the_panel_says() -> None:
    known = messages()
    assert set(known) == {"en", "zh", "ja"}
    code = "".join(read(path) for path in (*LIB.glob("live_[lpv]*.js"), ROOT / "js" / "live.js"))
    used = set(re.findall(r"(?<!_)messages\.(\w+)", code))
    used.update(*re.findall(r"const \{ (\w+), (\w+) \} = messages", code))
    used |= {"speaking", "listening"}  # by the state of the session
    for language, names in known.items():
        assert names == used, language


@pytest.mark.parametrize("name", ["LiveClient", "Server", "piecesOf", "RATE"])
def test_panel_uses_what_the_page_has(name: str) -> None:
    assert re.search(rf"#code\.{name}\b", read(LIB / "live_panel.js"))
    exported = re.findall(r"^export (?:class|const|(?:async )?function) (\w+)", read(PAGE / "client.js"), re.MULTILINE)
    exported += re.findall(r"^export (?:class|const|(?:async )?function) (\w+)", read(PAGE / "sound.js"), re.MULTILINE)
    assert name in exported


def test_panel_asks_clients_for_nothing_they_lack() -> None:
    client = read(PAGE / "client.js")
    for name in set(re.findall(r"#client\??\.(\w+)\(", read(LIB / "live_panel.js"))):
        assert re.search(rf"^  (?:async )?{name}\(", client, re.MULTILINE), name


def test_only_the_entries_have_effects() -> None:
    """ComfyUI imports every script of the pack: those in lib/ must do nothing by that."""
    for path in LIB.glob("*.js"):
        for line in read(path).splitlines():
            assert not line or line.startswith((" ", "/", "}", "]", ")", "import", "export", "const", "function")), (
                f"{path.name}: {line}"
            )


def test_help_shows_settings_that_are_known() -> None:
    """The example of the help pages, in all languages, is made of names that live_settings.py knows."""
    settings = read(ROOT / "nodes" / "host" / "live_settings.py")
    for language in ("en", "zh", "ja"):
        page = read(ROOT / "js" / "docs" / "MuseTalkLiveAvatar" / f"{language}.md")
        (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        for name in re.findall(r"(\w+): ", example):
            assert f'"{name}"' in settings, (language, name)
