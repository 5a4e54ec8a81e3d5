"""The door of every route: who asks is checked first, and whatever goes wrong is answered in one form."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from ..errors import MuseTalkError
from .problems import status_of
from .security import RateLimiter, RefusedError, SecurityPolicy, Tickets, redact

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TICKET_PROTOCOL = "musetalk.ticket."
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

    def guard(self, handler: Handler, *, public: bool = False) -> Handler:
        """The handler behind every check.

        public: needs no token, as the page and the health of the server, and may be the target of a link.
        """

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                self.check(request, public=public)
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

    def check(self, request: web.Request, *, public: bool = False) -> None:
        """Raises RefusedError for a request that is not served."""
        headers, peer = request.headers, _peer(request)
        self.policy.check_peer(peer)
        self.policy.check_host(headers.get("Host"))
        if not (public and request.method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"):
            self.policy.check_origin(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site"))
        if not self._requests.allows(peer or ""):
            raise RefusedError(429, "too_many_requests", "too many requests; wait a second")
        if self.policy.token is not None and not public:
            self._check_credential(request, peer or "")

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
        if isinstance(error, MuseTalkError):
            return *status_of(error), self.redact(str(error))
        log.error("a request failed: %s", self.redact(repr(error)), exc_info=error)
        return 500, "internal", "the server failed; its log has the reason"

    def redact(self, text: str) -> str:
        """Text without the server's secrets and folders."""
        return redact(text, self._hidden)

    def _check_credential(self, request: web.Request, peer: str) -> None:
        """The token, or a ticket for the session that the route is about, in a header or a WebSocket subprotocol."""
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            offered = (name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(","))
            given = next((name[len(TICKET_PROTOCOL) :] for name in offered if name.startswith(TICKET_PROTOCOL)), "")
        session = request.match_info.get("session")
        if self.policy.matches_token(given) or (session and self.tickets.matches(given, f"session:{session}")):
            return
        if not self._failures.allows(peer):
            raise RefusedError(429, "too_many_requests", "too many wrong tokens; wait some seconds")
        raise RefusedError(401, "unauthorized", "send the token as Authorization: Bearer, or a ticket of this session")

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
    """The address that the connection comes from; no header can claim another. None for a Unix socket."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return peer[0] if isinstance(peer, tuple) else None
