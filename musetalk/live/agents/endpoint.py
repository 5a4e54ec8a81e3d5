"""Where an OpenAI-compatible server is, and the key to it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit

from ...errors import InputError
from ..secret_files import read_secret

_LOOKS_LIKE_A_KEY = re.compile(r"(?i)\b(?:bearer\s+|(?:sk|ek|pk)[-_])[A-Za-z0-9._~+/=*-]{4,}")
_HIDDEN = "[hidden]"
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")


class Secret:
    """A key that does not show: not when printed, logged, formatted, compared in a report, or pickled."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        if not _HEADER_TEXT.fullmatch(value):
            raise InputError(f"the key has {len(value)} characters, some of which no header can carry; check the file")
        self.__value = value

    @classmethod
    def from_file(cls, path: Path) -> Secret:
        """The key in a text file, without the white space around it.

        Raises InputError as :func:`~musetalk.live.secret_files.read_secret`, and for a key that no header can carry.
        """
        return cls(read_secret(path, "key file"))

    def reveal(self) -> str:
        """The key itself, for the one header it belongs to."""
        return self.__value

    def __repr__(self) -> str:
        return _HIDDEN

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    base_url: up to and without the last part, as ``https://api.openai.com/v1``. key: sent as bearer token; None for
    servers that want none. headers: sent with every request, and as secret as the key.
    plain_key: allow the key to travel unencrypted to another machine.

    Raises InputError for a URL of another form, or a key that would travel unencrypted.
    """

    base_url: str = "https://api.openai.com/v1"
    key: Secret | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    plain_key: bool = False

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise InputError("the base URL of the agent must be http://HOST/... or https://HOST/..., with /v1 if used")
        if url.username or url.password or url.query or url.fragment:
            raise InputError(f"the base URL of the agent at {url.hostname} may hold neither a key nor a query")
        secret = self.key is not None or bool(self.headers)
        if url.scheme == "http" and secret and not self.plain_key and not _is_this_machine(url.hostname):
            raise InputError(f"the key would travel unencrypted to {url.hostname}; use https, or set plain_key")

    def url(self, path: str) -> str:
        """The address of one part, as ``audio/speech``."""
        return f"{self.base_url.rstrip('/')}/{path}"

    def websocket_url(self, path: str, **query: str) -> str:
        """The same for a WebSocket."""
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return "ws" + self.url(path).removeprefix("http") + (f"?{text}" if text else "")

    def request_headers(self) -> dict[str, str]:
        """What goes with every request, the key among it: for the request only."""
        headers = dict(self.headers)
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key.reveal()}"
        return headers

    def redact(self, text: str) -> str:
        """A server's own words without the key, what looks like one, the value of any header, or its address."""
        values = [*self.headers.values(), self.base_url, f"//{urlsplit(self.base_url).netloc}"]
        if self.key is not None:
            values.append(self.key.reveal())
        for value in sorted(filter(None, values), key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return _LOOKS_LIKE_A_KEY.sub(_HIDDEN, text)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
