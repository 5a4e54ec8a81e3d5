"""The options of ``musetalk live``, refused before any model is read, and its log."""

from __future__ import annotations

import argparse
import json
import logging
import os

import pytest
import torch

from musetalk.errors import InputError
from musetalk.live.cli_live import add_live
from musetalk.live.logs import JsonLines, PlainLines

TOKEN = "a-token-of-some-length"


def parse(*options: str) -> argparse.Namespace:
    def add_command(subparsers, name, run, help_text):
        command = subparsers.add_parser(name, help=help_text)
        command.set_defaults(run=run, json=False, quiet=True)
        return command

    parser = argparse.ArgumentParser()
    add_live(parser.add_subparsers(), add_command)
    return parser.parse_args(["live", *options])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "token-file"),
        (["--host", "::"], "token-file"),
        (["--allow-host", "a.example"], "token-file"),
        (["--allow-origin", "*"], "origin"),
        (["--token-file", "/none"], "cannot read"),
        (["--port", "70000"], "70000"),
        (["--agent-url", "ftp://a.example"], "http"),
        (["--ice-server", "http://a.example"], "ice-server"),
        (["--ice-server", "turn:a.example:3478", "--ice-login-file", "/none"], "login file"),
        (["--speech-url", "http://a.example/v1", "--speech-key-file", "/none"], "key file"),
        (["--agent-url", "http://a.example/v1", "--agent-instructions-file", "/none"], "instructions /none"),
        (["--agent-url", "http://a.example/v1", "--agent-instructions-file", os.devnull], "are empty"),
    ],
)
def test_options_that_are_refused(options, message):
    args = parse("--models", "/no/such/folder", *options)
    with pytest.raises(InputError, match=message):
        args.run(args)


def test_log_lines_are_json_without_secrets():
    record = logging.LogRecord("musetalk", logging.INFO, "", 0, "a %s\nand %s", (TOKEN, "Bearer abc"), None)
    record.path = "/sessions"
    line = JsonLines([TOKEN]).format(record)
    assert TOKEN not in line and "abc" not in line and "\n" not in line
    assert json.loads(line)["path"] == "/sessions"


@pytest.mark.parametrize(
    "message", ['settings {"token": "a secret value"}', 'GET /Bearer abcdef" x', "key sk-abcdefghijk"]
)
def test_what_is_struck_out_leaves_json_whole(message):
    record = logging.LogRecord("musetalk", logging.INFO, "", 0, message, (), None)
    for secret in ("secret value", "abcdef", "sk-abc"):
        assert secret not in json.loads(JsonLines(["secret value"]).format(record))["message"]
        assert secret not in PlainLines(["secret value"]).format(record)


def test_ice_servers_of_the_options(tmp_path):
    from musetalk.live.cli_live import _media

    login = tmp_path / "login"
    login.write_text("user:pass:word\n")
    login.chmod(0o600)
    urls = ("stun:stun.example:3478", "turn:turn.example:3478?transport=udp")
    media = _media(parse(*(f"--ice-server={url}" for url in urls), "--ice-login-file", str(login)))
    assert [(ice["urls"], ice["credential"]) for ice in media.ice_facts(secret=True)] == [
        (urls[0], None),
        (urls[1], "pass:word"),
    ]
    assert [ice["urls"] for ice in media.ice_facts(secret=False)] == [urls[0]]


@pytest.mark.parametrize("given", [None, "fp32"])
def test_networks_have_the_precision_that_is_fastest_here_unless_told(given, monkeypatch):
    from musetalk.live.cli_live import _models

    monkeypatch.setattr("musetalk.live.tuning.live_dtype", lambda device: torch.bfloat16)
    options = ["--models", "mini", "--device", "cpu", *(["--dtype", given] if given else [])]
    assert _models(parse(*options)).dtype is (torch.float32 if given else torch.bfloat16)
