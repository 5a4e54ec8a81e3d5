"""One WebSocket to an OpenAI-Realtime-compatible server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from ... import extras
from .base import AgentError, AgentRefusedError
from .endpoint import Endpoint
from .realtime_events import Event, RealtimeConfig, read_event, table_of, text_of

logger = logging.getLogger(__name__)

CONNECT_S = 15.0
SEND_S = 5.0
CLOSE_S = 2.0
HEARTBEAT_S = 20.0
MESSAGE_LIMIT = 32 * 1024 * 1024

_TRY_AGAIN = (408, 425, 429)
_FINAL_CODES = frozenset(
    {
        "beta_api_shape_disabled",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_model",
        "model_not_found",
        "unsupported_country_region_territory",
    }
)


class RealtimeConnection:
    """An open connection whose server has announced its session. Iterate for its messages, as text.

    Neither sending nor iterating fails when the connection is lost: iteration ends.
    """

    def __init__(self, http: Any, websocket: Any) -> None:
        self._http = http
        self._websocket = websocket
        self._sent = 0

    @classmethod
    async def open(cls, config: RealtimeConfig, timeout_s: float = CONNECT_S) -> RealtimeConnection:
        """Connect, wait for the session, and configure it.

        Raises AgentError when the server cannot be reached, AgentRefusedError when it will not have us.
        """
        try:
            return await asyncio.wait_for(cls._open(config), timeout_s)
        except asyncio.TimeoutError:
            logger.warning("%s did not answer in %g s", config.endpoint.base_url, timeout_s)
            raise AgentError(f"the voice agent did not answer in {timeout_s:g} s; try again later") from None

    @classmethod
    async def _open(cls, config: RealtimeConfig) -> RealtimeConnection:
        aiohttp = extras.require("aiohttp", "live")
        endpoint = config.endpoint
        http = open_http(aiohttp)
        try:
            websocket = await http.ws_connect(
                endpoint.websocket_url("realtime", model=config.model),
                headers=endpoint.request_headers(),
                heartbeat=HEARTBEAT_S,
                max_msg_size=MESSAGE_LIMIT,
            )
            connection = cls(http, websocket)
            await connection._wait_for_session(endpoint)
            await connection.send(config.session_update())
            return connection
        except aiohttp.WSServerHandshakeError as error:
            await http.close()
            logger.warning("%s refused the connection: HTTP %d", endpoint.base_url, error.status)
            raise refusal(error.status, f"the voice agent refused the connection (HTTP {error.status})") from None
        except (aiohttp.ClientError, OSError) as error:
            await http.close()
            logger.warning("cannot reach %s: %s", endpoint.base_url, endpoint.redact(str(error)))
            raise AgentError(f"cannot reach the voice agent ({type(error).__name__}); try again later") from None
        except BaseException:
            await http.close()
            raise

    async def send(self, event: Event) -> str:
        """Send one event, and return its id. A server that does not read for ``SEND_S`` is disconnected."""
        self._sent += 1
        event_id = f"musetalk_{self._sent}"
        message = json.dumps({"event_id": event_id, **event})
        try:
            await asyncio.wait_for(self._websocket.send_str(message), SEND_S)
        except (asyncio.TimeoutError, ConnectionError, RuntimeError):
            await self.close()
        return event_id

    async def __aiter__(self) -> AsyncIterator[str]:
        aiohttp = extras.require("aiohttp", "live")
        async for message in self._websocket:
            if message.type == aiohttp.WSMsgType.TEXT:
                yield message.data
            elif message.type == aiohttp.WSMsgType.BINARY:
                yield message.data.decode("utf-8", errors="replace")

    async def close(self) -> None:
        """Say goodbye, not waiting long for an answer."""
        with suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(self._websocket.close(), CLOSE_S)
        await self._http.close()

    async def _wait_for_session(self, endpoint: Endpoint) -> None:
        async for message in self:
            event = read_event(message)
            if event["type"] == "session.created":
                return
            if event["type"] == "error":
                raise error_of(event, endpoint)
        logger.warning("%s closed the connection before it announced a session", endpoint.base_url)
        raise AgentError("the voice agent closed the connection before it announced a session")


def error_of(event: Event, endpoint: Endpoint) -> AgentError:
    """An ``error`` event as an exception; its ``code`` is the server's word for it."""
    details = table_of(event, "error")
    code = text_of(details, "code") if details.get("code") is not None else text_of(details, "type")
    kind = AgentRefusedError if code in _FINAL_CODES else AgentError
    return kind(endpoint.redact(text_of(details, "message")) or "the agent reported an error", endpoint.redact(code))


def refusal(status: int, text: str) -> AgentError:
    """The exception for an HTTP status that is no success."""
    final = 300 <= status < 500 and status not in _TRY_AGAIN
    return (AgentRefusedError if final else AgentError)(text, f"http_{status}")


def open_http(aiohttp: Any) -> Any:
    """A client that reads no environment, and follows no redirect: the key is for the configured server alone."""

    async def refuse(*_: object) -> None:
        raise aiohttp.ClientError("the server redirects; configure the address it redirects to")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return aiohttp.ClientSession(trust_env=False, trace_configs=[trace])
