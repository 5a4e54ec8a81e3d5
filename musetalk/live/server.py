"""The routes of live avatars, on ComfyUI's server or on one of their own."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from .gate import preflight
from .routes_avatars import AvatarRoutes
from .routes_media import MediaRoutes
from .routes_page import PageRoutes
from .routes_sessions import SessionRoutes
from .service import LiveService

log = logging.getLogger(__name__)

PREFIX = "/musetalk/live"
_GRACE_SECONDS = 5.0


def live_routes(service: LiveService, prefix: str = PREFIX) -> list[web.RouteDef]:
    """Every route, each behind the service's gate. ComfyUI wants them under ``/api`` too, for its front end."""
    guard = service.gate.guard
    page, sessions = PageRoutes(service), SessionRoutes(service)
    avatars, media = AvatarRoutes(service), MediaRoutes(service)
    of_session = f"{prefix}/sessions/{{session}}"
    public = [
        *([web.get(prefix, guard(page.page, public=True))] if prefix else []),
        web.get(f"{prefix}/", guard(page.page, public=True)),
        web.get(f"{prefix}/page/{{name}}", guard(page.asset, public=True)),
        web.get(f"{prefix}/config", guard(page.config, public=True)),
        web.get(f"{prefix}/health", guard(page.health, public=True)),
        web.get(f"{prefix}/ready", guard(page.ready, public=True)),
    ]
    private = [
        web.get(f"{prefix}/metrics", guard(page.metrics)),
        web.get(f"{prefix}/avatars", guard(avatars.list)),
        web.post(f"{prefix}/avatars", guard(avatars.create)),
        web.post(f"{prefix}/avatars/{{avatar}}/warm", guard(avatars.warm)),
        web.delete(f"{prefix}/avatars/{{avatar}}", guard(avatars.delete)),
        web.get(f"{prefix}/jobs/{{job}}", guard(avatars.job)),
        web.delete(f"{prefix}/jobs/{{job}}", guard(avatars.cancel)),
        web.get(f"{prefix}/recordings/{{recording}}", guard(sessions.recording)),
        web.post(f"{prefix}/sessions", guard(sessions.create)),
        web.get(of_session, guard(sessions.show)),
        web.delete(of_session, guard(sessions.close, tickets=False)),
        web.post(f"{of_session}/ticket", guard(sessions.ticket, tickets=False)),
        web.post(f"{of_session}/audio", guard(sessions.sound)),
        web.post(f"{of_session}/end", guard(sessions.end)),
        web.post(f"{of_session}/clear", guard(sessions.clear)),
        web.post(f"{of_session}/text", guard(sessions.text)),
        web.post(f"{of_session}/turn_end", guard(sessions.turn_end)),
        web.post(f"{of_session}/avatar", guard(sessions.avatar)),
        web.post(f"{of_session}/recording", guard(sessions.record, tickets=False)),
        web.delete(f"{of_session}/recording", guard(sessions.stop_recording, tickets=False)),
        web.post(f"{of_session}/whep", guard(media.offer)),
        web.delete(f"{of_session}/whep/{{viewer}}", guard(media.leave)),
        web.get(f"{of_session}/socket", guard(media.socket)),
    ]
    routes = public + private
    # Of each path there is, not of any: otherwise every unknown one would be known, with the wrong method.
    paths = dict.fromkeys(route.path for route in routes)
    return [*routes, *(web.options(path, guard(preflight, public=True)) for path in paths)]


def add_routes(app: web.Application, service: LiveService, prefix: str = PREFIX) -> None:
    """Put live avatars on an application that has not started; they leave with it.

    The checks are on these routes alone: the application's other routes, and its own middlewares, stay as they are.
    """
    app.add_routes(live_routes(service, prefix))

    async def close(_: web.Application) -> None:
        await service.close()

    app.on_shutdown.append(close)


def create_app(service: LiveService) -> web.Application:
    """An application with nothing but live avatars, at its root."""
    app = web.Application()
    add_routes(app, service, prefix="")
    return app


class AccessLogger(AbstractAccessLogger):
    """One line for each request, without its query and headers: no ticket, token or text is in a log."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        path = request.rel_url.raw_path
        self.logger.info(
            "%s %s %d %.0f ms",
            request.method,
            # As it was sent: decoded, it could hold a line end.
            path,
            response.status,
            1000 * time,
            extra={"method": request.method, "path": path, "status": response.status, "seconds": time},
        )


async def serve(app: web.Application, host: str, port: int, started: asyncio.Event | None = None) -> None:
    """Serve until SIGINT, SIGTERM, or cancelled; then let everybody go. Raises OSError for an address in use."""
    runner = web.AppRunner(app, access_log_class=AccessLogger, access_log=log, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        # Windows has no such handlers; there Ctrl-C cancels the task.
        with suppress(NotImplementedError):
            loop.add_signal_handler(getattr(signal, name), stop.set)
    try:
        await web.TCPSite(runner, host, port).start()
        if started is not None:
            started.set()
        await stop.wait()
    finally:
        await runner.cleanup()
