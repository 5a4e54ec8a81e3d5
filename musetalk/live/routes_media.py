"""How viewers come to a session: WHEP for WebRTC players and browsers, a WebSocket for programs."""

from __future__ import annotations

from aiohttp import web

from .requests import read_body
from .security import RefusedError, check_id
from .service import LiveService, LiveSession
from .webrtc import SDP_BYTES
from .websocket import serve_socket


class MediaRoutes:
    """The handlers under ``/sessions/{session}/whep`` and ``/sessions/{session}/socket``."""

    def __init__(self, service: LiveService) -> None:
        self._service = service

    async def offer(self, request: web.Request) -> web.Response:
        """``POST .../whep[?microphone=agent|avatar]``: an SDP offer -> 201, the answer, and ``Location`` to DELETE."""
        if request.content_type != "application/sdp":
            raise RefusedError(415, "unsupported_media_type", "send application/sdp")
        microphone = request.query.get("microphone")
        if microphone not in (None, "agent", "avatar"):
            raise RefusedError(400, "malformed", "microphone is agent or avatar")
        session = self._session(request)
        offer = (await read_body(request, SDP_BYTES)).decode("utf-8", "replace")
        peer, answer = await self._service.open_peer(session, offer, microphone=microphone)
        headers = {"Location": f"{request.path.rstrip('/')}/{peer.id}"}
        return web.Response(status=201, text=answer, content_type="application/sdp", headers=headers)

    async def leave(self, request: web.Request) -> web.Response:
        """``DELETE .../whep/{viewer}``"""
        session, viewer = (check_id(request.match_info[name]) for name in ("session", "viewer"))
        await self._service.close_peer(session, viewer)
        return web.Response(status=204)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """``GET .../socket``: see :mod:`musetalk.live.websocket`."""
        return await serve_socket(self._service, self._session(request), request)

    def _session(self, request: web.Request) -> LiveSession:
        return self._service.session(check_id(request.match_info["session"]))
