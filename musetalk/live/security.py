"""Who may talk to a live server: addresses, hosts, origins, tokens, tickets, and how often.

The defaults can be left on: without a token only this machine is served; a page of another site, or a name that was
pointed at this machine behind the browser's back (DNS rebinding), is refused; nothing is answered with a wildcard.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ..errors import InputError, MuseTalkError
from .secret_files import read_secret

MIN_TOKEN_LENGTH = 16
AVATAR_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
OPAQUE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# How the peer of a Unix socket, which has no address, is called.
UNIX_SOCKET = "unix"
# Who sends one of these is a proxy that speaks for somebody else.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_TOKEN_CHARACTERS = re.compile(r"[A-Za-z0-9._~+/=-]+")


class RefusedError(MuseTalkError):
    """A request that is not served. ``status`` is the HTTP status, ``code`` a word for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def is_loopback(address: str | None) -> bool:
    """Whether an IP address, in text, is this machine; what is no address is not."""
    parsed = _address(address or "")
    return parsed is not None and parsed.is_loopback


def client_key(address: str) -> str:
    """What the requests of an address are counted under: IPv6 clients have a whole /64 to choose addresses from."""
    parsed = _address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed or address)


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises InputError as :func:`read_secret`, and for a token that is short or has characters no header carries.
    """
    token = read_secret(path, "token file")
    check_token(token)
    return token


def check_token(token: str) -> None:
    """Raises InputError for a token that is easy to guess by its length, or that no header can carry."""
    if len(token) < MIN_TOKEN_LENGTH or not _TOKEN_CHARACTERS.fullmatch(token):
        raise InputError(
            f"a token has at least {MIN_TOKEN_LENGTH} of the characters A-Z a-z 0-9 . _ ~ + / = -, this one has "
            f"{len(token)} characters; make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )


def check_id(text: str, pattern: re.Pattern[str] = OPAQUE_ID) -> str:
    """An id as it is. Raises RefusedError (404) for one that cannot exist, so that no such text goes any further."""
    if not pattern.fullmatch(text):
        raise RefusedError(404, "not_found", "there is nothing of that name")
    return text


@dataclass(frozen=True)
class SecurityPolicy:
    """What a server accepts.

    token: secret that programs send as ``Authorization: Bearer``; None serves this machine only.
    origins: other sites whose pages may use the server, such as ``https://example.com``.
    hosts: names the server is reached by, besides localhost and IP addresses, such as ``avatar.example.com``.
    """

    token: str | None = None
    origins: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.token is not None:
            check_token(self.token)
        for origin in self.origins:
            parts = _split(origin)
            if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
                raise InputError(f"{origin!r} is no origin; write it like https://example.com, without a path")
        for host in self.hosts:
            parts = _split(f"//{host}")
            if parts is None or parts.hostname != host.lower():
                raise InputError(f"{host!r} is no host name; write it like avatar.example.com, without port and scheme")
        # Browsers send both in lower case.
        object.__setattr__(self, "origins", frozenset(origin.lower() for origin in self.origins))
        object.__setattr__(self, "hosts", frozenset(host.lower() for host in self.hosts))
        if self.hosts and self.token is None:
            raise InputError("a server reached by other names than localhost needs a token: --token-file FILE")

    def check_bind(self, host: str) -> None:
        """Raises InputError for an address others can reach while there is no token."""
        if self.token is None and host != "localhost" and not (host and is_loopback(host)):
            raise InputError(
                f"{host or 'every address'} can be reached from other machines, which needs a token: --token-file FILE"
            )

    def check_peer(self, address: str | None, headers: Mapping[str, str]) -> None:
        """Raises RefusedError for another machine, and for whoever a proxy speaks for, while there is no token.

        address: of the connection, UNIX_SOCKET, or None where it is not known any more, which is refused.
        """
        if self.token is not None:
            return
        if address != UNIX_SOCKET and not is_loopback(address):
            raise RefusedError(403, "token_required", "this server has no token, so it only serves its own machine")
        if any(name in headers for name in _FORWARDED):
            raise RefusedError(403, "token_required", "behind a proxy this server needs a token: --token-file FILE")

    def check_host(self, host: str | None) -> None:
        """Raises RefusedError for a name this server is not known by.

        An attacker who points a name of his own at this machine shows up here. Addresses cannot be re-pointed; without
        a token only those of this machine are taken.
        """
        parts = _split(f"//{host}") if host else None
        name = parts.hostname if parts is not None else None
        if name is None or name in self.hosts or name == "localhost":
            if name is None:
                raise RefusedError(400, "bad_host", "the request has no usable Host header")
            return
        if not _is_address(name) or (self.token is None and not is_loopback(name)):
            raise RefusedError(403, "host_not_allowed", "this server is not known by that name; see --allow-host")

    def check_origin(self, host: str | None, origin: str | None, fetch_site: str | None) -> None:
        """Raises RefusedError for a request that the page of another site made.

        host, origin, fetch_site: the headers Host, Origin and Sec-Fetch-Site. Programs send neither of the last two.
        """
        if origin is not None:
            if origin.lower() not in self.origins and not _same_place(origin, host or ""):
                raise RefusedError(403, "origin_not_allowed", "pages of that origin may not use this server")
        elif fetch_site not in (None, "same-origin", "none"):
            raise RefusedError(403, "origin_not_allowed", "pages of other origins may not use this server")

    def matches_token(self, candidate: str) -> bool:
        """Whether this is the token, in a time that does not depend on where they differ."""
        expected = (self.token or "").encode()
        return self.token is not None and hmac.compare_digest(expected, candidate.encode("utf-8", "replace"))


class Tickets:
    """Short-lived, signed permissions that a browser may hold in place of the token.

    A ticket is good for one scope, such as one session, until it expires or this process ends.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock

    def issue(self, scope: str, seconds: float) -> str:
        """A ticket for ``scope``, such as ``session:abc``, good for so many seconds."""
        payload = base64.urlsafe_b64encode(f"{self._clock() + seconds:.3f} {scope}".encode()).decode().rstrip("=")
        return f"{payload}.{self._sign(payload)}"

    def matches(self, ticket: str, scope: str) -> bool:
        """Whether the ticket was issued here for ``scope`` and has not expired."""
        payload, _, signature = ticket.partition(".")
        if not ticket.isascii() or not hmac.compare_digest(self._sign(payload), signature):
            return False
        expires, _, granted = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode().partition(" ")
        return float(expires) > self._clock() and granted == scope

    def _sign(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode(), hashlib.sha256).hexdigest()


class RateLimiter:
    """A token bucket for each client: ``burst`` requests at once, ``per_second`` in the long run."""

    def __init__(
        self, per_second: float, burst: int, *, clients: int = 1024, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clients = clients
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def is_empty(self, client: str) -> bool:
        """Whether the client's bucket holds less than one request; nothing is taken."""
        return self._level(client) < 1.0

    def allows(self, client: str) -> bool:
        """Take one request from the client's bucket, if there is one. The longest unseen clients are forgotten."""
        level = self._level(client)
        allowed = level >= 1.0
        self._buckets.pop(client, None)
        self._buckets[client] = (level - 1.0 if allowed else level, self._clock())
        while len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        return allowed

    def _level(self, client: str) -> float:
        now = self._clock()
        level, seen = self._buckets.get(client, (float(self._burst), now))
        return min(self._burst, level + (now - seen) * self._per_second)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Text fit for a log: bearer tokens, keys that look like ``sk-...`` and the ``known`` secrets are struck out."""
    for secret in known:
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"(?i)(bearer\s+)[^\s\"',]+", r"\1***", text)
    text = re.sub(r"(?i)\b((?:api[_-]?key|token|ticket)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+", r"\1***", text)
    return re.sub(r"\bsk-[A-Za-z0-9_-]{8,}", "sk-***", text)


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None for one that has no proper form."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts


def _same_place(origin: str, host: str) -> bool:
    """Whether an Origin header names the host and port of a Host header."""
    there, here = _split(origin), _split(f"//{host}")
    if there is None or here is None or there.scheme not in _DEFAULT_PORTS or not there.hostname:
        return False
    default = _DEFAULT_PORTS[there.scheme]
    return (there.hostname, there.port or default) == (here.hostname, here.port or default)


def _is_address(name: str) -> bool:
    return _address(name) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address in text, without its zone; an IPv4 address in an IPv6 one is that; None for what is none."""
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
