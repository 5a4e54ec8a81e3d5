"""Live avatars on a real ComfyUI: the node, the routes, memory, and the side panel in a browser.

The browser's part needs what test_browser.py needs; all of it needs the extra [live] in ComfyUI's Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSER_CHECK = Path(__file__).parent / "browser" / "live.mjs"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PREFIX = "/musetalk/live"
RATE = 24000

pytestmark = pytest.mark.usefixtures("live_extra")


@pytest.fixture(scope="module")
def checked(comfy_root: Path, comfy_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    base = tmp_path_factory.mktemp("live_checks")
    (base / "custom_nodes").mkdir()
    result = subprocess.run(
        [comfy_python, str(Path(__file__).with_name("live_checks.py")), "--base-directory", str(base)],
        env={**os.environ, "PYTHONPATH": str(comfy_root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "check",
    [
        "nothing_of_the_extra_is_imported_before_it_is_used",
        "networks_come_and_go_with_comfyuis_memory",
        "who_waits_for_networks_is_told_when_they_are_released",
        "the_default_networks_are_those_of_the_loader",
        "settings_of_the_owner_are_read",
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
    written = (folder / "avatar.json").stat().st_ino
    live.server.run(prompt("bea"))
    assert (folder / "avatar.json").stat().st_ino == written
    live.server.run(prompt("bea", shift=2))
    assert (folder / "avatar.json").stat().st_ino != written


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
def seen(request: pytest.FixtureRequest, live: Live) -> dict[str, Any]:
    core = os.environ.get("PLAYWRIGHT_CORE", "")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if shutil.which("node") is None or chromium is None or not (Path(core) / "index.mjs").is_file():
        pytest.skip("NOT RUN: needs node, a Chromium and playwright-core; see test_browser.py")
    wanted = {
        "url": live.server.address,
        "vue": request.param,
        "prompt": prompt("vue" if request.param else "classic"),
        "voice": str(ROOT / "demo" / "speech.wav"),
        "pictures": os.environ.get("MUSETALK_SCREENSHOTS"),
    }
    done = subprocess.run(
        ["node", str(BROWSER_CHECK)],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        env={**os.environ, "CHROMIUM": chromium},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout), "name": wanted["prompt"]["4"]["inputs"]["name"]}


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


def test_panel_tells_figures(seen: dict[str, Any]) -> None:
    fps, delay, _ = seen["speaking"]["figures"]
    assert int(fps) > 0 and delay.endswith(" ms")
    assert "listening" in seen["idle"]["states"]


def test_leaving_the_panel_leaves_the_session_but_not_the_microphone(seen: dict[str, Any]) -> None:
    assert seen["again"]["microphone"] == "false"
    assert seen["panelIsHidden"]
    assert "Start" in seen["after"]["notice"]
