"""The door of every route: who asks is checked first, and whatever goes wrong is answered in one form."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from ..errors import MuseTalkError
from .agents.base import AgentError
from .problems import status_of
from .security import (
    UNIX_SOCKET,
    RateLimiter,
    RefusedError,
    SecurityPolicy,
    Tickets,
    client_key,
    redact,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TICKET_PROTOCOL = "musetalk.ticket."
# An agent's address, and how aiohttp names a host that it cannot reach.
_AGENT = re.compile(r"(?:\bthe (?:agent(?: at)?|speech server) )?\b(?:https?|wss?)://[^\s\"'<>;,()]*[^\s\"'<>;:,()]")
_AGENT_HOST = re.compile(r"\bhost \S+:\d+")
_RETRY = {429: "1", 503: "5"}
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
}


class Gate:
    """Lets requests through to handlers, or answers them.

    policy: what is accepted. hidden: texts that never leave the server, such as its folders.
    """

    def __init__(
        self,
        policy: SecurityPolicy,
        *,
        hidden: Iterable[str] = (),
        per_second: float = 25.0,
        burst: int = 100,
    ) -> None:
        self.policy = policy
        self.tickets = Tickets()
        self.refused = 0
        self._hidden = [*hidden, *([policy.token] if policy.token else [])]
        self._requests = RateLimiter(per_second, burst)
        self._failures = RateLimiter(1.0, 10)

    def guard(self, handler: Handler, *, public: bool = False, tickets: bool = True) -> Handler:
        """The handler behind every check.

        public: needs no token, as the page and the health of the server, and may be the target of a link. tickets:
        whether a ticket of the session that the route is about does, in place of the token.
        """

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                self.check(request, public=public, tickets=tickets)
                response = await handler(request)
            except (web.HTTPException, asyncio.CancelledError, ConnectionError):
                raise
            except Exception as error:
                self.refused += isinstance(error, RefusedError)
                response = self.answer(error)
            if not response.prepared:
                self._add_headers(request, response)
            return response

        return guarded

    def check(self, request: web.Request, *, public: bool = False, tickets: bool = True) -> None:
        """Raises RefusedError for a request that is not served."""
        headers, peer = request.headers, _peer(request)
        self.policy.check_peer(peer, headers)
        self.policy.check_host(headers.get("Host"))
        if not (public and request.method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"):
            self.policy.check_origin(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site"))
        client = client_key(peer or "")
        if not self._requests.allows(client):
            raise RefusedError(429, "too_many_requests", "too many requests; wait a second")
        if self.policy.token is not None and not public:
            self._check_credential(request, client, tickets)

    def answer(self, error: Exception) -> web.Response:
        """The answer to a request that failed, as ``{"error": {"code", "message"}}``."""
        status, code, message = self.describe(error)
        headers = {"Retry-After": _RETRY[status]} if status in _RETRY else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)

    def describe(self, error: Exception) -> tuple[int, str, str]:
        """HTTP status, code and message of an error; what was not foreseen is logged and told in no detail."""
        if isinstance(error, RefusedError):
            return error.status, error.code, self.redact(str(error))
        if isinstance(error, AgentError):
            return *status_of(error), self.redact_agent(str(error))
        if isinstance(error, MuseTalkError):
            return *status_of(error), self.redact(str(error))
        log.error("a request failed: %s", self.redact(repr(error)), exc_info=error)
        return 500, "internal", "the server failed; its log has the reason"

    def redact(self, text: str) -> str:
        """Text without the server's secrets and folders."""
        return redact(text, self._hidden)

    def redact_agent(self, text: str) -> str:
        """As :meth:`redact`, for what an agent says: its address is the operator's business."""
        return self.redact(_AGENT_HOST.sub("its host", _AGENT.sub("the voice agent", text)))

    def _check_credential(self, request: web.Request, client: str, tickets: bool) -> None:
        """The token, or a ticket for the session that the route is about, in a header or a WebSocket subprotocol."""
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            offered = (name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(","))
            given = next((name[len(TICKET_PROTOCOL) :] for name in offered if name.startswith(TICKET_PROTOCOL)), "")
        # Before anything is compared: who guesses learns nothing while the bucket is empty.
        if given and self._failures.is_empty(client):
            raise RefusedError(429, "too_many_requests", "too many wrong tokens; wait some seconds")
        session = request.match_info.get("session") if tickets else None
        if self.policy.matches_token(given) or (session and self.tickets.matches(given, f"session:{session}")):
            return
        if given:
            self._failures.allows(client)
        raise RefusedError(401, "unauthorized", "send the token, or a ticket that opens this, as Authorization: Bearer")

    def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        origin = request.headers.get("Origin")
        if origin in self.policy.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "Location"
            response.headers["Vary"] = "Origin"


async def preflight(request: web.Request) -> web.Response:
    """The answer to a browser that asks whether a listed origin may use a route."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "600",
        },
    )


def _peer(request: web.Request) -> str | None:
    """The address that the connection comes from, which no header can claim; None when there is no connection."""
    if request.transport is None:
        return None
    link = request.transport.get_extra_info("socket")
    if link is not None and link.family == getattr(socket, "AF_UNIX", None):
        return UNIX_SOCKET
    peer = request.transport.get_extra_info("peername")
    return peer[0] if isinstance(peer, tuple) else None
