"""Live avatars on a real ComfyUI: the node, the routes, memory, and the side panel in a browser.

The browser's part needs what ``in_browser`` needs, see tests/conftest.py; all of it needs the extra [live] in
ComfyUI's Python.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSER_CHECK = Path(__file__).parent / "browser" / "live.mjs"
PREFIX = "/musetalk/live"
RATE = 24000
# Of the astronaut's picture, 512x512: x, y, width, height.
PARTS = {"lips": [190, 130, 72, 40], "forehead": [190, 30, 72, 40], "suit": [0, 256, 512, 256]}

pytestmark = pytest.mark.usefixtures("live_extra")


@pytest.fixture(scope="module")
def checked(outcomes_of: Callable[..., dict[str, str | None]]) -> dict[str, str | None]:
    return outcomes_of("live_checks.py")


@pytest.mark.parametrize(
    "check",
    [
        "nothing_of_the_extra_is_imported_before_it_is_used",
        "networks_come_and_go_with_comfyuis_memory",
        "who_waits_for_networks_is_told_when_they_are_released",
        "the_default_networks_are_those_of_the_loader",
        "sound_and_pictures_are_those_of_the_engine",
        "settings_of_the_owner_are_read",
        "an_agents_settings_reach_it",
        "wrong_settings_are_named",
        "origins_are_those_of_comfyuis_command_line",
        "an_extra_that_is_missing_is_named",
    ],
)
def test_in_comfyuis_python(check: str, checked: dict[str, str | None]) -> None:
    assert checked[check] is None, checked[check]


class Live:
    """The live routes of a server."""

    def __init__(self, server: Any) -> None:
        self.server = server

    def call(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of an answer; ``body`` is sent as JSON, bytes as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(
            self.server.address + path, data, {"Content-Type": kind, **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text.decode()

    def avatars(self) -> dict[str, dict[str, Any]]:
        return {avatar["name"]: avatar for avatar in self.call(f"{PREFIX}/avatars")[1]["avatars"]}

    def begin(self, avatar: str) -> str:
        status, session = self.call(f"{PREFIX}/sessions", {"avatar": avatar})
        assert status == 201, session
        return session["id"]

    def ends(self, session: str, seconds: float) -> bool:
        """Whether a session ends within a time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.call(f"{PREFIX}/sessions/{session}")[0] == 404:
                return True
            time.sleep(0.1)
        return False

    def free(self) -> None:
        assert self.call("/free", {"unload_models": True})[0] == 200


@pytest.fixture(scope="module")
def live(server: Any) -> Live:
    shutil.copy(ROOT / "demo" / "astronaut.png", server.base / "input")
    return Live(server)


def prompt(name: str, shift: int = 0) -> dict[str, Any]:
    """The shared workflow, with another name for its avatar."""
    graph = json.loads((ROOT / "workflows" / "api" / "live_avatar.json").read_text("utf-8"))
    for node in graph.values():
        if node["class_type"] == "MuseTalkLiveAvatar":
            node["inputs"]["name"] = name
        if node["class_type"] == "MuseTalkPrepareAvatar":
            node["inputs"]["bbox_shift"] = shift
        if node["class_type"] == "MuseTalkLoadModels":
            node["inputs"]["face_parser"] = "none"
    return graph


def test_node_puts_the_avatar_on_the_server(live: Live) -> None:
    result = live.server.run(prompt("ada"))
    (told,) = next(output["musetalk_live"] for output in result.outputs.values() if "musetalk_live" in output)
    assert told == {"avatar": "ada", "path": f"{PREFIX}/?avatar=ada"}
    link = next(output["text"][0] for output in result.outputs.values() if "text" in output)
    assert link == live.server.address + told["path"]
    with urllib.request.urlopen(link) as page:
        assert b"<video" in page.read()
    avatar = live.avatars()["ada"]
    assert (avatar["frames"], avatar["width"], avatar["height"], avatar["warm"]) == (1, 512, 512, True)


def test_an_avatar_that_is_there_is_not_written_again(live: Live) -> None:
    live.server.run(prompt("bea"))
    (folder,) = live.server.base.rglob("avatars/bea")
    written = (folder / "avatar.json").stat().st_mtime_ns
    live.server.run(prompt("bea"))
    assert (folder / "avatar.json").stat().st_mtime_ns == written
    live.server.run(prompt("bea", shift=2))
    assert (folder / "avatar.json").stat().st_mtime_ns != written


def test_an_avatar_on_screen_is_not_replaced(live: Live) -> None:
    live.server.run(prompt("cleo"))
    session = live.begin("cleo")
    assert "in use" in live.server.fails(prompt("cleo", shift=3))
    assert live.call(f"{PREFIX}/sessions/{session}", method="DELETE")[0] == 204
    live.server.run(prompt("cleo", shift=3))


@pytest.mark.parametrize("name", ["", "../out", "Ada", "a" * 65])
def test_names_that_cannot_be_are_refused_before_anything_runs(live: Live, name: str) -> None:
    assert "a-z, 0-9 and -" in live.server.refused(prompt(name))


def test_sessions_work_under_api_too(live: Live) -> None:
    live.server.run(prompt("dora"))
    session = live.begin("dora")
    path = f"/api{PREFIX}/sessions/{session}"
    status, pushed = live.call(f"{path}/audio?rate={RATE}&end=1", bytes(2 * RATE))
    assert status == 200 and 0 < pushed["ahead_s"] <= 1
    status, cleared = live.call(f"{path}/clear", {})
    assert status == 200 and cleared["type"] == "cleared"
    assert live.call(path, method="DELETE")[0] == 204


def test_strangers_are_refused(live: Live) -> None:
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert live.call(f"{PREFIX}/avatars", **header)[0] == 403, header
    assert live.call(f"{PREFIX}/page/..%2Fserver.py")[0] in (404, 405)


def test_what_is_kept_is_not_served(live: Live) -> None:
    live.server.run(prompt("eve"))
    (folder,) = live.server.base.rglob("avatars/eve")
    where = folder.relative_to(live.server.base / "user")
    for path in (f"/userdata/{where}/avatar.json", f"/view?filename=avatar.json&type=user&subfolder={where}"):
        assert live.call(path)[0] in (400, 403, 404), path


def test_freeing_memory_ends_sessions_and_the_next_goes_on(live: Live) -> None:
    live.server.run(prompt("fay"))
    session = live.begin("fay")
    live.free()
    if not live.ends(session, seconds=3):
        live.free()  # ComfyUI sleeps through one that comes while it tidies up after a prompt
        assert live.ends(session, seconds=10)
    again = live.begin("fay")
    assert again != session
    live.call(f"{PREFIX}/sessions/{again}", method="DELETE")


def test_interrupting_a_prompt_leaves_sessions_alone(live: Live) -> None:
    live.server.run(prompt("gwen"))
    session = live.begin("gwen")
    live.server.call("/interrupt", {})
    assert not live.ends(session, seconds=1.5)
    live.call(f"{PREFIX}/sessions/{session}", method="DELETE")


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "vue"])
def seen(request: pytest.FixtureRequest, in_browser: Callable[[Path, Any], Any], live: Live) -> dict[str, Any]:
    graph = prompt("vue" if request.param else "classic")
    # Random networks have no lips.
    graph["2"]["inputs"]["unet"] = "musetalk-mini (included)"
    wanted = {
        "url": live.server.address,
        "vue": request.param,
        "prompt": graph,
        "parts": PARTS,
        "voice": str(ROOT / "demo" / "speech.wav"),
        "pictures": os.environ.get("MUSETALK_SCREENSHOTS"),
    }
    return {**in_browser(BROWSER_CHECK, wanted), "name": graph["4"]["inputs"]["name"]}


def test_panel_shows_the_avatar_of_the_node(seen: dict[str, Any]) -> None:
    assert seen["errors"] == [] and seen["log"] == ""
    assert seen["ran"]["avatar"] == seen["name"]
    assert seen["ran"]["href"].endswith(f"{PREFIX}/?avatar={seen['name']}")


def test_panel_plays_what_it_is_given(seen: dict[str, Any]) -> None:
    for name in ("idle", "speaking", "heard", "again"):
        assert seen[name]["fps"] > 10, name
    assert seen["speaking"]["level"] > 0.1 and seen["heard"]["level"] > 0.1
    assert seen["idle"]["level"] < 0.01
    assert seen["silent"]["level"] < 0.01


def test_panel_shows_lips_that_move_with_the_sound_and_nothing_else(seen: dict[str, Any]) -> None:
    idle, speaking, silent = (seen[name]["changed"] for name in ("idle", "speaking", "silent"))
    assert speaking["lips"] > 0.1, seen
    for still in (idle["lips"], silent["lips"], speaking["forehead"], speaking["suit"]):
        assert still < speaking["lips"] / 4, seen


def test_panel_tells_figures(seen: dict[str, Any]) -> None:
    fps, delay, _ = seen["speaking"]["figures"]
    assert int(fps) > 0 and delay.endswith(" ms")
    assert "listening" in seen["idle"]["states"]


def test_leaving_the_panel_leaves_the_session_but_not_the_microphone(seen: dict[str, Any]) -> None:
    assert seen["again"]["microphone"] == "false"
    assert seen["panelIsHidden"]
    assert "Start" in seen["after"]["notice"]
