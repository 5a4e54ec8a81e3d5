"""What the owner of a ComfyUI has decided about its live avatars: ``live.yaml`` in a folder that is never served.

    token_file: token          # serves other machines, to those who send this token; made with secrets.token_urlsafe
    hosts: [avatars.local]     # names the server is reached by, besides localhost and addresses
    speech: {url: "http://127.0.0.1:8000/v1", model: tts-1, voice: alloy, key_file: speech.key}
    agent: {url: "https://api.openai.com/v1", model: gpt-realtime, key_file: openai.key}

Every entry may be left out, and the whole file; files are beside it unless their path is absolute. An agent may also
have a ``voice``, ``instructions`` (a text), ``turns`` (``server_vad``, ``semantic_vad`` or ``manual``) and a
``transcription_model``; see ``musetalk live --help``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
import yaml
from comfy.cli_args import args

from ...musetalk.errors import InputError
from ...musetalk.live.security import SecurityPolicy, read_token

if TYPE_CHECKING:
    from ...musetalk.live.agents.endpoint import Endpoint
    from ...musetalk.live.service import AgentFactory, AgentRole

logger = logging.getLogger(__name__)

FILE = "live.yaml"
_OWNER = "musetalk"
_KNOWN = {"token_file", "hosts", "speech", "agent"}
_OF_AGENT = ("voice", "instructions", "transcription_model")
_KNOWN_OF = {
    "speech": {"url", "model", "voice", "key_file"},
    "agent": {"url", "model", "key_file", *_OF_AGENT, "turns"},
}


@dataclass(frozen=True)
class LiveSettings:
    """policy: who may come in. agents: see :class:`musetalk.live.service.LiveService`."""

    policy: SecurityPolicy = field(default_factory=SecurityPolicy)
    agents: Mapping[AgentRole, AgentFactory] = field(default_factory=dict)


def live_folder() -> Path:
    """Where live avatars and their settings are kept: ComfyUI hands its system users' folders to nobody."""
    if hasattr(folder_paths, "get_system_user_directory"):
        return Path(folder_paths.get_system_user_directory(_OWNER))
    return Path(folder_paths.get_user_directory()) / f"__{_OWNER}"


def read_settings() -> LiveSettings:
    """The settings of `live_folder`. Raises InputError that names what is wrong with them."""
    path = live_folder() / FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{FILE} is not YAML: {error}") from error
    _check(FILE, values, _KNOWN)
    for name in _KNOWN_OF.keys() & values.keys():
        _check(f"{name} in {FILE}", values[name], _KNOWN_OF[name])
    hosts = values.get("hosts", [])
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise InputError(f"hosts in {FILE} is a list of names")
    token = read_token(_beside(values["token_file"])) if "token_file" in values else None
    policy = SecurityPolicy(token, _comfy_origins(), frozenset(host.lower() for host in hosts))
    return LiveSettings(policy, _agents(values))


def _comfy_origins() -> frozenset[str]:
    """The site that ``--enable-cors-header`` lets in; for ``*``, any site, there is no such trust here."""
    origin = args.enable_cors_header
    if not origin or origin == "*":
        return frozenset()
    try:
        return SecurityPolicy(origins=frozenset({origin})).origins
    except InputError as error:
        logger.warning("live avatars do not follow --enable-cors-header: %s", error)
        return frozenset()


def _agents(values: Mapping[str, Any]) -> dict[AgentRole, AgentFactory]:
    from ...musetalk.live.agents.openai_realtime import OpenAIRealtime
    from ...musetalk.live.agents.realtime_events import RealtimeConfig, turn_detection_of
    from ...musetalk.live.agents.tts import OpenAISpeech, SpeechConfig

    agents: dict[AgentRole, AgentFactory] = {}
    if "agent" in values:
        conversation = RealtimeConfig(
            _endpoint(values["agent"]),
            turn_detection=turn_detection_of(str(values["agent"].get("turns") or "server_vad")),
            **_named(values["agent"], "model", *_OF_AGENT),
        )
        agents["agent"] = lambda sink, listener: OpenAIRealtime(conversation, sink, listener)
    if "speech" in values:
        speech = SpeechConfig(_endpoint(values["speech"]), **_named(values["speech"], "model", "voice"))
        agents["speech"] = lambda sink, listener: OpenAISpeech(speech, sink, listener)
    return agents


def _endpoint(values: Mapping[str, Any]) -> Endpoint:
    from ...musetalk.live.agents.endpoint import Endpoint, Secret

    if "url" not in values:
        raise InputError(f"speech and agent in {FILE} need a url, such as http://127.0.0.1:8000/v1")
    key = Secret.from_file(_beside(values["key_file"])) if "key_file" in values else None
    return Endpoint(str(values["url"]), key)


def _named(values: Mapping[str, Any], *names: str) -> dict[str, str]:
    return {name: str(values[name]) for name in names if values.get(name) is not None}


def _beside(name: Any) -> Path:
    return live_folder() / Path(str(name)).expanduser()


def _check(what: str, values: Any, known: set[str]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{what} has no entries; write them as name: value")
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise InputError(f"{what} has {', '.join(unknown)}, which means nothing; known are {', '.join(sorted(known))}")
