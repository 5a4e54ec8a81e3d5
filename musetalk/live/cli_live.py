"""``musetalk live``: its options, and what it does."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError
from ..extras import require
from ..included import models_folder

if TYPE_CHECKING:
    from ..models import Models
    from .agents.endpoint import Endpoint
    from .service import AgentFactory, AgentRole, LiveService
    from .webrtc import MediaSettings

_ICE_URL = re.compile(r"(?:stun|turn)s?:[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:\?transport=(?:udp|tcp))?")
AddCommand = Callable[[Any, str, Any, str], argparse.ArgumentParser]


def add_live(subparsers: Any, add_command: AddCommand) -> None:
    """Add the command. add_command: (subparsers, name, run, help) to a parser with the options every command has."""
    command = add_command(subparsers, "live", live, "Serve live avatars to browsers and programs.")
    command.add_argument(
        "--avatars", type=Path, default=Path("avatars"), help="folder of avatars, made if absent (default: avatars)"
    )
    models = command.add_argument_group("models")
    models.add_argument(
        "--models", type=models_folder, metavar="FOLDER", help="models folder, or mini (default: models, else mini)"
    )
    models.add_argument("--version", choices=("auto", "v15", "v1"), default="auto", help="MuseTalk 1.5 or 1.0")
    models.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")
    models.add_argument("--lora", action="append", default=[], metavar="FILE[=STRENGTH]", help="adapter; repeatable")
    models.add_argument(
        "--dtype",
        choices=("fp32", "bf16", "fp16"),
        help="default: fp16 on a GPU, the faster of bf16 and fp32 on a CPU",
    )
    door = command.add_argument_group("who may come in")
    door.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; others need a token (default: %(default)s)"
    )
    door.add_argument("--port", type=int, default=8190, help="default: %(default)s")
    door.add_argument("--token-file", type=Path, help="file with the token that programs and pages must send")
    door.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN", help="another site whose pages may use it"
    )
    door.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name the server is reached by; needs a token"
    )
    door.add_argument("--max-sessions", type=int, default=8, help="at once (default: %(default)s)")
    media = command.add_argument_group("media")
    media.add_argument("--codec", choices=("H264", "VP8"), default="H264", help="tried first (default: %(default)s)")
    media.add_argument("--bitrate", type=int, help="video, bits per second (default: by the size of the picture)")
    media.add_argument(
        "--ice-server", action="append", default=[], metavar="URL", help="stun:HOST:PORT or turn:HOST:PORT; repeatable"
    )
    media.add_argument("--ice-login-file", type=Path, help="file with USER:PASSWORD for the TURN servers")
    media.add_argument("--recordings", type=Path, metavar="FOLDER", help="allow recordings, kept here")
    voices = command.add_argument_group("voices")
    voices.add_argument("--agent-url", metavar="URL", help="OpenAI-Realtime-compatible server, such as http://HOST/v1")
    voices.add_argument("--agent-model", default="gpt-realtime", help="default: %(default)s")
    voices.add_argument("--agent-key-file", type=Path, help="file with its key, which no browser and no log sees")
    voices.add_argument("--agent-voice", default="", help="default: the server's")
    voices.add_argument("--agent-instructions-file", type=Path, help="text file: who the agent is, and how it speaks")
    voices.add_argument(
        "--agent-turns",
        choices=("server_vad", "semantic_vad", "manual"),
        default="server_vad",
        help="who hears that a turn is over: the server, by loudness or by meaning, or the viewer's command turn_end "
        "(default: %(default)s)",
    )
    voices.add_argument(
        "--agent-transcription-model",
        default="",
        help="has the server write down what viewers say (default: it does not)",
    )
    voices.add_argument("--speech-url", metavar="URL", help="OpenAI-compatible speech server, to read texts out")
    voices.add_argument("--speech-model", default="gpt-4o-mini-tts", help="default: %(default)s")
    voices.add_argument("--speech-voice", default="alloy", help="default: %(default)s")
    voices.add_argument("--speech-key-file", type=Path, help="file with its key")


def live(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Run the command until it is interrupted; its JSON result and exit code."""
    for module in ("aiohttp", "aiortc", "prometheus_client"):
        require(module, "live")
    # What can be wrong with the options is told before gigabytes of weights are read.
    from .security import SecurityPolicy, read_token

    token = None if args.token_file is None else read_token(args.token_file)
    policy = SecurityPolicy(token, frozenset(args.allow_origin), frozenset(name.lower() for name in args.allow_host))
    policy.check_bind(args.host)
    if not 1 <= args.port <= 65535:
        raise InputError(f"--port {args.port} is none; give 1 to 65535")
    agents = _agents(args)
    media = _media(args)
    _log(args, [token] if token else [])
    service = _service(args, policy, agents, media)
    # Windows; elsewhere the signal has ended it already.
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(args, service))
    return {"live": f"{args.host}:{args.port}"}, 0


async def _serve(args: argparse.Namespace, service: LiveService) -> None:
    from .server import create_app, serve

    host = f"[{args.host}]" if ":" in args.host else args.host
    if not args.quiet:
        print(f"musetalk: live avatars at http://{host}:{args.port}/ (Ctrl-C ends it)", file=sys.stderr)
    try:
        await serve(create_app(service), args.host, args.port)
    except OSError as error:
        raise OutputError(f"cannot listen at {host}:{args.port}: {error}; choose another --port") from error


def _service(
    args: argparse.Namespace, policy: Any, agents: dict[AgentRole, AgentFactory], media: MediaSettings
) -> LiveService:
    from .assembly import build_service
    from .heap import keep_freed_memory
    from .timeline import SessionLimits

    keep_freed_memory()
    limits = SessionLimits(sessions=args.max_sessions)
    return build_service(
        _models(args),
        args.avatars,
        policy=policy,
        session_limits=limits,
        media=media,
        agents=agents,
        recordings=args.recordings,
    )


def _models(args: argparse.Namespace) -> Models:
    from ..commands import load_models
    from ..models.load import resolve_device
    from .tuning import live_dtype

    args.dtype = args.dtype or live_dtype(resolve_device(args.device))
    return load_models(args)


def _media(args: argparse.Namespace) -> MediaSettings:
    from aiortc import RTCIceServer

    from .secret_files import read_secret
    from .webrtc import MediaSettings

    login: tuple[str | None, str | None] = (None, None)
    if args.ice_login_file is not None:
        user, colon, password = read_secret(args.ice_login_file, "login file").partition(":")
        if not (user and colon and password):
            raise InputError(f"the login file {args.ice_login_file} holds no USER:PASSWORD")
        login = user, password
    servers = []
    for url in args.ice_server:
        if not _ICE_URL.fullmatch(url):
            raise InputError(f"--ice-server {url} is none; write it like stun:HOST:3478 or turn:HOST:3478")
        name, credential = login if url.startswith("turn") else (None, None)
        servers.append(RTCIceServer(urls=url, username=name, credential=credential))
    return MediaSettings(args.codec, args.bitrate, tuple(servers))


def _agents(args: argparse.Namespace) -> dict[AgentRole, AgentFactory]:
    from .agents.openai_realtime import OpenAIRealtime
    from .agents.realtime_events import RealtimeConfig, turn_detection_of
    from .agents.tts import OpenAISpeech, SpeechConfig

    agents: dict[AgentRole, AgentFactory] = {}
    if args.agent_url is not None:
        conversation = RealtimeConfig(
            _endpoint(args.agent_url, args.agent_key_file),
            model=args.agent_model,
            instructions=_instructions(args.agent_instructions_file),
            voice=args.agent_voice,
            turn_detection=turn_detection_of(args.agent_turns),
            transcription_model=args.agent_transcription_model,
        )
        agents["agent"] = lambda sink, listener: OpenAIRealtime(conversation, sink, listener)
    if args.speech_url is not None:
        endpoint = _endpoint(args.speech_url, args.speech_key_file)
        speech = SpeechConfig(endpoint, model=args.speech_model, voice=args.speech_voice)
        agents["speech"] = lambda sink, listener: OpenAISpeech(speech, sink, listener)
    return agents


def _instructions(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the agent's instructions {path}: {error}") from error
    if not text:
        raise InputError(f"the agent's instructions {path} are empty; write some, or leave the option out")
    return text


def _endpoint(url: str, key_file: Path | None) -> Endpoint:
    from .agents.endpoint import Endpoint, Secret

    return Endpoint(url, None if key_file is None else Secret.from_file(key_file))


def _log(args: argparse.Namespace, hidden: list[str]) -> None:
    """To stderr: JSON lines with --json, else plain ones; only warnings with --quiet."""
    from .logs import JsonLines, PlainLines

    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(hidden) if args.json else PlainLines(hidden))
    logger = logging.getLogger("musetalk")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if args.quiet else logging.INFO)
