"""Checks of live avatars inside ComfyUI's own Python, without a server: run by test_live.py.

python live_checks.py --base-directory EMPTY_DIR      (with ComfyUI's folder on PYTHONPATH)
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from in_comfyui import part, report

sys.argv = ["main.py", "--cpu", *sys.argv[1:]]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management as mm  # noqa: E402
import folder_paths  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from server import PromptServer  # noqa: E402

RUNNING: dict[int, Any] = {}


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


def sound_and_pictures_are_those_of_the_engine() -> None:
    """Through ComfyUI's layers: thinned sound, whose steps no dtype may touch, and a picture looked at before."""
    models = part("nodes.host.live_networks").LiveNetworks(None, lambda: None)()
    streaming, thinning = part("musetalk.live.streaming"), part("musetalk.live.thinning")
    inpainting, engine = part("musetalk.inpainting"), part("musetalk").load_models("mini", device="cpu")
    noise = np.random.default_rng(0).normal(0, 0.1, 96_000).astype(np.float32)
    mel, steps = part("musetalk.audio.mel").log_mel(noise)[None], thinning.thinned_steps(300, 270)
    assert torch.equal(streaming.encode_states(models, mel, steps), streaming.encode_states(engine, mel, steps))

    latents, windows = torch.from_numpy(noise[:8192]).reshape(1, 8, 32, 32), torch.zeros(1, 50, 128)
    drawn, expected = (
        network.unet.listen(
            network.unet.look(inpainting.unet_latents(network, latents)), inpainting.unet_tokens(network, windows)
        )
        for network in (models, engine)
    )
    torch.testing.assert_close(drawn, expected)


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


def an_agents_settings_reach_it() -> None:
    settings = part("nodes.host.live_settings")
    settings.live_folder().mkdir(parents=True, exist_ok=True)
    (settings.live_folder() / "live.yaml").write_text(
        "agent:\n  url: http://127.0.0.1:8000/v1\n  voice: cedar\n  turns: manual\n  transcription_model: whisper-1\n"
        "  instructions: |\n    You are Ada.\n    Be brief.\n",
        "utf-8",
    )
    config = settings.read_settings().agents["agent"](type("Sink", (), {})(), lambda event: None)._config
    assert (config.voice, config.turn_detection, config.transcription_model) == ("cedar", None, "whisper-1")
    assert config.instructions == "You are Ada.\nBe brief.\n"


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
        ("agent: {url: 'http://127.0.0.1:8000/v1', turns: sometimes}", "manual"),
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


PromptServer.instance = SimpleNamespace(
    prompt_queue=SimpleNamespace(currently_running=RUNNING),
    routes=SimpleNamespace(route=lambda *_: lambda handler: handler),
    app=SimpleNamespace(on_shutdown=[]),
)
report(
    nothing_of_the_extra_is_imported_before_it_is_used,
    networks_come_and_go_with_comfyuis_memory,
    who_waits_for_networks_is_told_when_they_are_released,
    the_default_networks_are_those_of_the_loader,
    sound_and_pictures_are_those_of_the_engine,
    settings_of_the_owner_are_read,
    an_agents_settings_reach_it,
    wrong_settings_are_named,
    origins_are_those_of_comfyuis_command_line,
    an_extra_that_is_missing_is_named,
)
