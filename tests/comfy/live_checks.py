"""Checks of live avatars inside ComfyUI's own Python, without a server: run by test_live.py.

python live_checks.py --base-directory EMPTY_DIR      (with ComfyUI's folder on PYTHONPATH)
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

sys.argv = ["main.py", "--cpu", *sys.argv[1:]]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management as mm  # noqa: E402
import folder_paths  # noqa: E402
from server import PromptServer  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RUNNING: dict[int, Any] = {}


def part(name: str) -> ModuleType:
    if "pack" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules["pack"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["pack"])
    return importlib.import_module(f"pack.{name}")


def nothing_of_the_extra_is_imported_before_it_is_used() -> None:
    before = set(sys.modules)
    part("nodes.extension").MuseTalkExtension()
    loaded = set(sys.modules) - before
    assert not {"aiortc", "aioice", "prometheus_client"} & loaded
    assert "pack.musetalk.live.service" not in loaded


def networks_come_and_go_with_comfyuis_memory() -> None:
    """Freed with nothing to run, the user wants the memory; put out by a prompt, they come back after it."""
    freed: list[float] = []
    networks = part("nodes.host.live_networks").LiveNetworks(None, lambda: freed.append(time.monotonic()))
    models = networks()
    assert networks() is models and models.unet is not None and models.vae is not None
    mm.unload_all_models()
    assert len(freed) == 1
    assert networks() is not models

    RUNNING[0] = "a prompt"
    mm.unload_all_models()
    assert len(freed) == 1
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(networks()))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive() and not mm.current_loaded_models
    RUNNING.clear()
    waiting.join(20)
    assert len(answers) == 1 and mm.current_loaded_models


def who_waits_for_networks_is_told_when_they_are_released() -> None:
    networks = part("nodes.host.live_networks").LiveNetworks(None, lambda: None)
    networks.bring()
    RUNNING[0] = "a prompt"
    mm.unload_all_models()
    answers: list[str] = []

    def ask() -> None:
        try:
            networks()
        except part("musetalk.errors").Cancelled as error:
            answers.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    networks.release()
    waiting.join(10)
    RUNNING.clear()
    assert answers == ["live avatars have been closed"]
    mm.unload_all_models()  # asks nobody: no callback is left


def the_default_networks_are_those_of_the_loader() -> None:
    """A graph with an untouched Load MuseTalk Models goes on with what the panel began with, not a second copy."""
    loaded = part("nodes.loaders").LoadModels.execute("auto", "auto", "auto", "auto", "auto", "auto", False).args
    networks = part("nodes.host.live_networks")
    model, vae, audio_encoder, face_models = loaded
    assert networks.Networks(model, vae, audio_encoder, face_models) == networks.default_networks()


def settings_of_the_owner_are_read() -> None:
    settings = part("nodes.host.live_settings")
    folder = settings.live_folder()
    assert folder.parent == Path(folder_paths.get_user_directory()) and folder.name.startswith("__")
    assert settings.read_settings().policy.token is None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text("0123456789abcdef\n", "utf-8")
    (folder / "token").chmod(0o600)
    (folder / "live.yaml").write_text(
        "token_file: token\nhosts: [Avatars.local]\nspeech: {url: 'http://127.0.0.1:8000/v1', voice: alloy}\n", "utf-8"
    )
    read = settings.read_settings()
    assert read.policy.token == "0123456789abcdef" and read.policy.hosts == {"avatars.local"}
    assert set(read.agents) == {"speech"}


def wrong_settings_are_named() -> None:
    settings = part("nodes.host.live_settings")
    settings.live_folder().mkdir(parents=True, exist_ok=True)
    for text, named in (
        ("tokn: x", "tokn"),
        ("[1, 2]", "live.yaml"),
        ("a: [", "YAML"),
        ("hosts: 3", "hosts"),
        ("speech: {voice: alloy}", "url"),
        ("agent: {secret: x}", "secret"),
    ):
        (settings.live_folder() / "live.yaml").write_text(text, "utf-8")
        try:
            settings.read_settings()
        except part("musetalk.errors").InputError as error:
            assert named in str(error), (text, error)
        else:
            raise AssertionError(text)


def origins_are_those_of_comfyuis_command_line() -> None:
    settings = part("nodes.host.live_settings")
    for given, expected in ((None, set()), ("*", set()), ("https://a.example", {"https://a.example"}), ("odd", set())):
        settings.args.enable_cors_header = given
        assert settings._comfy_origins() == expected
    settings.args.enable_cors_header = None


def an_extra_that_is_missing_is_named() -> None:
    service = part("nodes.host.live_service")
    service._NEEDED = ("aiohttp", "no_such_library")
    try:
        service.require_live()
    except part("musetalk.errors").InputError as error:
        assert "[live]" in str(error) and "no_such_library" in str(error)
    else:
        raise AssertionError("nothing was missed")


def run(check: Callable[[], None]) -> str | None:
    try:
        check()
    except Exception:
        return traceback.format_exc()
    return None


PromptServer.instance = SimpleNamespace(
    prompt_queue=SimpleNamespace(currently_running=RUNNING),
    routes=SimpleNamespace(route=lambda *_: lambda handler: handler),
    app=SimpleNamespace(on_shutdown=[]),
)
print(
    json.dumps(
        {
            check.__name__: run(check)
            for check in (
                nothing_of_the_extra_is_imported_before_it_is_used,
                networks_come_and_go_with_comfyuis_memory,
                who_waits_for_networks_is_told_when_they_are_released,
                the_default_networks_are_those_of_the_loader,
                settings_of_the_owner_are_read,
                wrong_settings_are_named,
                origins_are_those_of_comfyuis_command_line,
                an_extra_that_is_missing_is_named,
            )
        }
    )
)
