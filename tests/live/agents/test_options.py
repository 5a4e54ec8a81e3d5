"""What the command line says of the agent is what its server is told."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from musetalk.live.cli_live import _agents, add_live

from .calls import KEY
from .fake_realtime import FakeRealtime, Script
from .sinks import PacedSink, until


def session_told(folder: Path, *options: str) -> dict[str, Any]:
    """The session that a server is asked for by an agent of these options."""
    parser = argparse.ArgumentParser()
    add_live(parser.add_subparsers(), lambda subparsers, name, run, text: subparsers.add_parser(name, help=text))
    key_file = folder / "key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)

    async def main() -> dict[str, Any]:
        async with FakeRealtime(Script(key=KEY)) as server:
            args = parser.parse_args(["live", "--agent-url", server.url, "--agent-key-file", str(key_file), *options])
            async with _agents(args)["agent"](PacedSink(), lambda event: None):
                await until(lambda: "session.updated" in server.sent)
            assert server.violations == []
            return server.events("session.update")[0]["session"]

    return asyncio.run(main())


def test_without_options_the_servers_own_are_kept(tmp_path: Path):
    session = session_told(tmp_path)
    heard, said = session["audio"]["input"], session["audio"]["output"]
    assert heard["turn_detection"] == {"type": "server_vad", "create_response": True, "interrupt_response": True}
    assert "instructions" not in session and set(heard) == {"format", "turn_detection"} and set(said) == {"format"}


@pytest.mark.parametrize(
    ("turns", "detection"),
    [
        ("manual", None),
        ("semantic_vad", {"type": "semantic_vad", "create_response": True, "interrupt_response": True}),
    ],
)
def test_options_reach_the_server(tmp_path: Path, turns: str, detection: dict[str, Any] | None):
    text = tmp_path / "who.txt"
    text.write_text("You are Ada.\nBe brief: — one sentence.\n\n", encoding="utf-8")
    options = {"instructions-file": text, "voice": "cedar", "turns": turns, "transcription-model": "whisper-1"}
    session = session_told(tmp_path, *(f"--agent-{name}={value}" for name, value in options.items()))
    assert session["instructions"] == "You are Ada.\nBe brief: — one sentence."
    assert session["audio"]["output"]["voice"] == "cedar"
    assert session["audio"]["input"]["turn_detection"] == detection
    assert session["audio"]["input"]["transcription"] == {"model": "whisper-1"}
