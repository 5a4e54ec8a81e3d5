"""Who is let in: addresses, names, origins, tokens, tickets, rates, and what may appear in a log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from multidict import CIMultiDict

from musetalk.errors import InputError
from musetalk.live.security import (
    AVATAR_ID,
    UNIX_SOCKET,
    RateLimiter,
    RefusedError,
    SecurityPolicy,
    Tickets,
    check_id,
    client_key,
    is_loopback,
    read_token,
    redact,
)

TOKEN = "a-token-of-some-length"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine(address):
    assert is_loopback(address)
    SecurityPolicy().check_peer(address, {})
    SecurityPolicy().check_peer(UNIX_SOCKET, {})


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "localhost.evil", "0.0.0.0", "", None]
)
def test_other_machines_need_a_token(address):
    with pytest.raises(RefusedError, match="no token") as caught:
        SecurityPolicy().check_peer(address, {})
    assert (caught.value.status, caught.value.code) == (403, "token_required")
    SecurityPolicy(token=TOKEN).check_peer(address, {})


@pytest.mark.parametrize("header", ["Forwarded", "x-forwarded-for", "X-Forwarded-Host", "X-Real-IP", "Via"])
@pytest.mark.parametrize("address", ["127.0.0.1", UNIX_SOCKET])
def test_a_proxy_on_this_machine_needs_a_token(address, header):
    headers = CIMultiDict({header: "203.0.113.9"})
    with pytest.raises(RefusedError, match="proxy") as caught:
        SecurityPolicy().check_peer(address, headers)
    assert (caught.value.status, caught.value.code) == (403, "token_required")
    SecurityPolicy(token=TOKEN).check_peer(address, headers)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.4", "example.com"])
def test_an_open_address_needs_a_token(host):
    with pytest.raises(InputError, match="--token-file"):
        SecurityPolicy().check_bind(host)
    SecurityPolicy(token=TOKEN).check_bind(host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_loopback_address_needs_none(host):
    SecurityPolicy().check_bind(host)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8190", "127.0.0.1:8190", "[::1]:8190"])
def test_known_hosts(host):
    SecurityPolicy().check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example:8190",
        "127.0.0.1.nip.io",
        "192.168.0.4:8190",
        "user@localhost",
        "localhost/..",
        "localhost/",
        "localhost:port",
        "[::1",
        "",
        None,
    ],
)
def test_rebound_and_malformed_hosts(host):
    with pytest.raises(RefusedError):
        SecurityPolicy().check_host(host)


def test_with_a_token_names_are_still_listed():
    policy = SecurityPolicy(token=TOKEN, hosts=frozenset({"Avatar.example"}))
    policy.check_host("avatar.EXAMPLE:443")
    policy.check_host("192.168.0.4:8190")
    with pytest.raises(RefusedError):
        policy.check_host("evil.example")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8190", "http://127.0.0.1:8190"),
        ("localhost", "http://localhost"),
        ("avatar.example", "https://avatar.example"),
        ("avatar.example:443", "https://avatar.example"),
        ("127.0.0.1:8190", "https://app.example"),
        ("127.0.0.1:8190", None),
    ],
)
def test_good_origins(host, origin):
    SecurityPolicy(origins=frozenset({"https://App.example"})).check_origin(host, origin, "same-origin")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:8191",
        "http://127.0.0.1",
        "http://localhost:8190",
        "http://127.0.0.1:8190.evil.example",
        "http://127.0.0.1:8190@evil.example",
        "file://",
        "null",
        "",
        "http://[::1",
        "ftp://127.0.0.1:8190",
    ],
)
def test_wrong_origins(origin):
    with pytest.raises(RefusedError) as caught:
        SecurityPolicy().check_origin("127.0.0.1:8190", origin, None)
    assert caught.value.code == "origin_not_allowed"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_other_sites_without_an_origin(site):
    with pytest.raises(RefusedError):
        SecurityPolicy().check_origin("127.0.0.1:8190", None, site)


@pytest.mark.parametrize("candidate", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 22, "\udcff"])
def test_wrong_tokens(candidate):
    assert SecurityPolicy(token=TOKEN).matches_token(TOKEN)
    assert not SecurityPolicy(token=TOKEN).matches_token(candidate)
    assert not SecurityPolicy().matches_token(candidate)


@pytest.mark.parametrize(
    "options",
    [
        {"token": "short"},
        {"token": "has white space inside"},
        {"origins": frozenset({"*"})},
        {"origins": frozenset({"https://a.example/path"})},
        {"hosts": frozenset({"a.example"})},
        {"token": TOKEN, "hosts": frozenset({"a.example:80"})},
        {"token": TOKEN, "hosts": frozenset({"*"}), "origins": frozenset({"evil"})},
    ],
)
def test_policies_that_make_no_sense(options):
    with pytest.raises(InputError):
        SecurityPolicy(**options)


def test_token_file(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    if os.name == "posix":
        for mode in (0o666, 0o640, 0o604):
            path.chmod(mode)
            with pytest.raises(InputError, match="chmod 600"):
                read_token(path)
    path.chmod(0o600)
    path.write_bytes(b"secret-\xff" * 4)
    for unreadable in (path, tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="cannot read the token file") as caught:
            read_token(unreadable)
        assert "secret" not in str(caught.value)


def test_tickets_are_for_one_scope_and_a_short_time():
    clock = Clock()
    tickets = Tickets(clock)
    ticket = tickets.issue("session:abc", 60)
    assert tickets.matches(ticket, "session:abc")
    assert not tickets.matches(ticket, "session:abcd")
    clock.now += 61
    assert not tickets.matches(ticket, "session:abc")


def test_forged_tickets():
    tickets = Tickets()
    ticket = tickets.issue("session:abc", 60)
    payload, signature = ticket.split(".")
    other = Tickets().issue("session:abc", 60)
    elsewhere = tickets.issue("session:abd", 60).split(".")[0]
    forged = [other, payload, f"{payload}.", f".{signature}", f"{elsewhere}.{signature}", "é.é", "", "a.b.c"]
    forged += [ticket[:i] + ("A" if ticket[i] not in "Aa" else "b") + ticket[i + 1 :] for i in range(len(ticket))]
    for text in forged:
        assert not tickets.matches(text, "session:abc"), text


def test_rates_are_per_client_and_memory_is_bounded():
    clock = Clock()
    limiter = RateLimiter(2, 3, clients=4, clock=clock)
    assert [limiter.allows("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.is_empty("a") and not limiter.is_empty("b")
    assert limiter.allows("b")
    clock.now += 0.5
    assert [limiter.allows("a"), limiter.allows("a")] == [True, False]
    for index in range(100):
        limiter.allows(f"client {index}")
    assert len(limiter._buckets) == 4


def test_an_ipv6_client_is_its_network():
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff:1%eth0") != client_key("2001:db8:0:1::1")
    assert client_key("::ffff:10.0.0.1") == client_key("10.0.0.1") != client_key("10.0.0.2")


@pytest.mark.parametrize(
    "text", ["..", ".", "", "a/b", "a%2fb", "A", "-a", "a" * 65, "a\n", "a\x00", "con:", "ä", "a.b"]
)
def test_names_that_cannot_exist(text):
    with pytest.raises(RefusedError) as caught:
        check_id(text, AVATAR_ID)
    assert caught.value.status == 404


def test_secrets_are_struck_out():
    text = redact(
        "Authorization: Bearer abc.def-123 and api_key='sk-proj-abcdefgh12' ?ticket=xyz&a=1 hidden sk-abcdefghijk",
        ["hidden"],
    )
    for secret in ("abc.def-123", "sk-proj", "xyz", "hidden", "sk-abcd"):
        assert secret not in text
    assert "a=1" in text
