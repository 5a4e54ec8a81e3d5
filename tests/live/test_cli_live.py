"""The options of ``musetalk live``, refused before any model is read, and its log."""

from __future__ import annotations

import argparse
import json
import logging

import pytest

from musetalk.errors import InputError
from musetalk.live.cli_live import add_live
from musetalk.live.logs import JsonLines

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
        (["--speech-url", "http://a.example/v1", "--speech-key-file", "/none"], "key file"),
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
