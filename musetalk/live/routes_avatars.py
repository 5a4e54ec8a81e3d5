"""Avatars over HTTP: listed, made from uploads, warmed up, removed; long work is a job with progress."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

from aiohttp import web

from .jobs import BackgroundJob
from .requests import body_chunks
from .security import AVATAR_ID, RefusedError, check_id
from .service import LiveService

_UPLOAD_SECONDS = 600.0


class AvatarRoutes:
    """The handlers under ``/avatars`` and ``/jobs``. The store touches the disk, so it is asked in a thread."""

    def __init__(self, service: LiveService) -> None:
        self._service = service
        self._store = service.store
        self._uploading = asyncio.Semaphore(2)

    async def list(self, request: web.Request) -> web.Response:
        """``GET /avatars``"""
        avatars = await asyncio.to_thread(self._store.list)
        return web.json_response({"avatars": [asdict(avatar) for avatar in avatars]})

    async def create(self, request: web.Request) -> web.Response:
        """``POST /avatars?name=...`` with a video or picture as the body -> 202 and the job that prepares it."""
        name = request.query.get("name", "")
        if not AVATAR_ID.fullmatch(name):
            raise RefusedError(400, "bad_name", "name has 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit")
        if self._uploading.locked():
            raise RefusedError(503, "busy", "other uploads are under way; try again later")
        async with self._uploading:
            path: Path = self._store.upload_path()
            try:
                await self._receive(request, path)
                job = await asyncio.to_thread(self._store.create, name, path)
            finally:
                # The store has moved it away by now, unless something failed.
                path.unlink(missing_ok=True)
        return _job_response(request, job)

    async def warm(self, request: web.Request) -> web.Response:
        """``POST /avatars/{avatar}/warm`` -> 202 and the job that makes it ready."""
        return _job_response(request, await asyncio.to_thread(self._store.warm, _avatar(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """``DELETE /avatars/{avatar}``"""
        await asyncio.to_thread(self._store.delete, _avatar(request))
        return web.Response(status=204)

    async def job(self, request: web.Request) -> web.Response:
        """``GET /jobs/{job}``"""
        return web.json_response(_facts(self._job(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        """``DELETE /jobs/{job}``: it stops at its next step."""
        job = self._job(request)
        job.cancel()
        return web.json_response(_facts(job), status=202)

    def _job(self, request: web.Request) -> BackgroundJob:
        job: BackgroundJob | None = self._store.job(check_id(request.match_info["job"]))
        if job is None:
            raise RefusedError(404, "not_found", "there is no such job")
        return job

    async def _receive(self, request: web.Request, path: Path) -> None:
        with path.open("xb") as file:
            async for chunk in body_chunks(request, self._service.limits.upload_bytes, _UPLOAD_SECONDS):
                await asyncio.to_thread(file.write, chunk)


def _avatar(request: web.Request) -> str:
    return check_id(request.match_info["avatar"], AVATAR_ID)


def _facts(job: BackgroundJob) -> dict[str, object]:
    names = ("id", "kind", "subject", "state", "stage", "done", "total", "error")
    return {name: getattr(job, name) for name in names}


def _job_response(request: web.Request, job: BackgroundJob) -> web.Response:
    prefix = request.path.partition("/avatars")[0]
    return web.json_response(_facts(job), status=202, headers={"Location": f"{prefix}/jobs/{job.id}"})
