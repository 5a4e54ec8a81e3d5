"""The routes of live avatars on ComfyUI's own server: there from the start, the service from their first use."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiohttp import web
from server import PromptServer

from ...musetalk.errors import MuseTalkError
from .live_service import HOST, PREFIX, missing_libraries

if TYPE_CHECKING:
    from ...musetalk.live.service import LiveService

logger = logging.getLogger(__name__)

_NOT_STARTED = {"code": "not_started", "message": "live avatars cannot start; ComfyUI's log has the reason"}


def register() -> None:
    """Put the routes on ComfyUI's server, before it starts; where the extra is not installed there are none."""
    server = getattr(PromptServer, "instance", None)
    if server is None or missing_libraries():
        return
    answer = LiveRoutes().answer
    for path in (PREFIX, f"{PREFIX}/{{rest:.*}}"):
        server.routes.route("*", path)(answer)

    async def close(_: web.Application) -> None:
        await HOST.close()

    server.app.on_shutdown.append(close)


class LiveRoutes:
    """One handler for every path below the prefix: ComfyUI's router takes no routes once it has started."""

    def __init__(self) -> None:
        self._made: tuple[LiveService, web.UrlDispatcher] | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Find the service's route for a request, and let it answer."""
        try:
            service = HOST.current or await asyncio.to_thread(HOST.service)
        except MuseTalkError as error:
            logger.error("live avatars cannot start: %s", error)
            return web.json_response({"error": _NOT_STARTED}, status=503)
        match = await self._router(service).resolve(request)
        if match.http_exception is not None:
            raise match.http_exception
        request.match_info.update(match)
        return await match.handler(request)

    def _router(self, service: LiveService) -> web.UrlDispatcher:
        if self._made is None or self._made[0] is not service:
            from ...musetalk.live.server import live_routes

            router = web.UrlDispatcher()
            # ComfyUI's page asks for everything below /api.
            for prefix in (PREFIX, f"/api{PREFIX}"):
                router.add_routes(live_routes(service, prefix))
            self._made = (service, router)
        return self._made[1]
