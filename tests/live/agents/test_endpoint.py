"""Keys do not show, and go to nobody but the server they are for."""

from __future__ import annotations

import os
import pickle
import traceback
from dataclasses import asdict, replace

import pytest

from musetalk.errors import InputError
from musetalk.live.agents.endpoint import Endpoint, Secret

KEY = "sk-proj-abcdefgh12345678"


def test_a_key_does_not_show_in_any_form():
    endpoint = Endpoint(key=Secret(KEY), headers={"X-Tenant": "tenant-secret"})
    shown = f"{endpoint} {endpoint!r} {endpoint.key} {endpoint.key!r} {[endpoint.key]}"
    shown += str(asdict(replace(endpoint, headers={})))
    assert "abcdefgh" not in shown and "tenant-secret" not in shown
    assert not hasattr(endpoint.key, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(endpoint.key)
    assert endpoint.request_headers() == {"X-Tenant": "tenant-secret", "Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"no such key: {KEY}!", "no such key: [hidden]!"),
        ("Authorization: Bearer eyJhbGciOi.J9x", "Authorization: [hidden]"),
        ("used sk-another-1234 and ek_tmp-9876", "used [hidden] and [hidden]"),
        ("for tenant-secret", "for [hidden]"),
        ("no https://agent.internal/v1/x, wss://agent.internal/x", "no [hidden]/x, wss:[hidden]/x"),
        ("the risk-averse asked for a task", "the risk-averse asked for a task"),
    ],
)
def test_words_of_others_are_redacted(text: str, redacted: str):
    endpoint = Endpoint("https://agent.internal/v1", Secret(KEY), {"X-Tenant": "tenant-secret"})
    assert endpoint.redact(text) == redacted


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel-12345"])
def test_a_key_no_header_can_carry_is_refused_without_being_shown(key: str):
    with pytest.raises(InputError) as caught:
        Secret(key)
    assert not key or key not in "".join(traceback.format_exception_only(caught.value))


def test_a_key_comes_from_a_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    assert Secret.from_file(path).reveal() == KEY
    with pytest.raises(InputError, match="cannot read the key file"):
        Secret.from_file(tmp_path / "missing")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX modes say who may read a file")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_key_file_that_is_open_to_others_is_refused(tmp_path, mode: int):
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(mode)
    with pytest.raises(InputError, match=rf"mode {mode:o}\); run: chmod 600 .*key") as caught:
        Secret.from_file(path)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com/v1",
        "ftp://host/v1",
        "https://",
        "file:///etc/passwd",
        f"https://user:{KEY}@host/v1",
        "https://host/v1?key=1",
    ],
)
def test_another_kind_of_address_is_refused(url: str):
    with pytest.raises(InputError) as caught:
        Endpoint(url)
    assert KEY not in str(caught.value)


def test_a_key_does_not_travel_unencrypted():
    with pytest.raises(InputError, match=r"unencrypted to agent\.example"):
        Endpoint("http://agent.example/v1", Secret(KEY))
    for url in ("http://localhost:8000/v1", "http://127.0.0.1/v1", "http://[::1]:8000/v1", "https://agent.example/v1"):
        Endpoint(url, Secret(KEY))
    Endpoint("http://agent.example/v1")
    Endpoint("http://agent.example/v1", Secret(KEY), plain_key=True)


def test_addresses_are_joined_and_quoted():
    endpoint = Endpoint("https://host/api/v1/")
    assert endpoint.url("audio/speech") == "https://host/api/v1/audio/speech"
    assert endpoint.websocket_url("realtime", model="a b&c") == "wss://host/api/v1/realtime?model=a%20b%26c"
