"""The page, and what tells operators how the server is."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from .metrics import CONTENT_TYPE, Metrics
from .service import LiveService

_PAGE = Path(__file__).parent / "page"
# Only these are ever read; nothing of a request becomes a path.
_ASSETS = {
    "index.html": "text/html",
    "live.css": "text/css",
    "live.js": "text/javascript",
    "client.js": "text/javascript",
    "sound.js": "text/javascript",
}


class PageRoutes:
    """The handlers of the page, ``/config``, ``/health``, ``/ready`` and ``/metrics``."""

    def __init__(self, service: LiveService) -> None:
        self._service = service
        self._metrics: Metrics | None = None

    async def page(self, request: web.Request) -> web.StreamResponse:
        """``GET /``; without its slash the page's own addresses would point beside it."""
        if not request.path.endswith("/"):
            raise web.HTTPTemporaryRedirect(f"{request.path}/")
        return _asset("index.html")

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """``GET /page/{name}``"""
        name = request.match_info["name"]
        if name not in _ASSETS:
            raise web.HTTPNotFound
        return _asset(name)

    async def config(self, request: web.Request) -> web.Response:
        """``GET /config``: what the page may offer; nothing in it is secret."""
        service = self._service
        return web.json_response(
            {
                "token": service.gate.policy.token is not None,
                "agent": service.has_agent("agent"),
                "speech": service.has_agent("speech"),
                "recordings": service.recordings is not None,
                "ice_servers": service.media.ice_facts(secret=False),
                "upload_bytes": service.limits.upload_bytes,
            }
        )

    async def health(self, request: web.Request) -> web.Response:
        """``GET /health``: 200 while the process answers."""
        return web.json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """``GET /ready``: 503 while the server shuts down or its networks fail; a full one is ready."""
        ready = self._service.is_ready
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``"""
        self._metrics = self._metrics or Metrics(self._service)
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _asset(name: str) -> web.Response:
    body = (_PAGE / name).read_bytes()
    return web.Response(body=body, content_type=_ASSETS[name], charset="utf-8", headers={"Cache-Control": "no-cache"})
