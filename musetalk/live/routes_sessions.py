"""Sessions over HTTP: made, asked, driven with sound, text and commands, recorded, and ended."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from .control import TEXT_CHARACTERS, obey
from .requests import field, integer, read_body, read_json
from .security import AVATAR_ID, RefusedError, check_id
from .service import LiveService, LiveSession
from .timeline import check_rate

TICKET_SECONDS = 60
# A window for a virtual camera is left open for a day; its ticket ends with the session at the latest.
_LONGEST_TICKET = 24 * 3600


class SessionRoutes:
    """The handlers under ``/sessions`` and ``/recordings``."""

    def __init__(self, service: LiveService) -> None:
        self._service = service

    async def create(self, request: web.Request) -> web.Response:
        """``POST /sessions {"avatar": id}`` -> 201 with the session's id and a ticket for it."""
        message = await read_json(request)
        avatar = check_id(field(message, "avatar", str, limit=64), AVATAR_ID)
        session = await self._service.create_session(avatar)
        location = f"{request.path.rstrip('/')}/{session.id}"
        answer = {**self._facts(session), **self._ticket(session, TICKET_SECONDS)}
        return web.json_response(answer, status=201, headers={"Location": location})

    async def show(self, request: web.Request) -> web.Response:
        """``GET /sessions/{session}``"""
        return web.json_response(self._facts(self._session(request)))

    async def close(self, request: web.Request) -> web.Response:
        """``DELETE /sessions/{session}``"""
        await self._service.close_session(self._session(request).id)
        return web.Response(status=204)

    async def ticket(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/ticket {"seconds": 60}``: a ticket that is good for this session, at most a day.

        A ticket watches and drives its session; it makes no tickets, and neither records nor ends the session.
        """
        seconds = field(await read_json(request), "seconds", int, TICKET_SECONDS)
        if not 1 <= seconds <= _LONGEST_TICKET:
            raise RefusedError(400, "malformed", f"seconds is 1 to {_LONGEST_TICKET}")
        return web.json_response(self._ticket(self._session(request), seconds))

    async def sound(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/audio?rate=24000[&end=1]``: mono, signed 16 bit little endian, as the body.

        Answers when the session has taken it, which keeps a client that sends faster than is played in step. Segment
        -1: it was cleared meanwhile; whoever sends the rest of it speaks on after an interruption.
        """
        session = self._session(request)
        rate = check_rate(integer(request.query.get("rate"), "rate"))
        pcm = await read_body(request, self._service.limits.sound_bytes)
        if len(pcm) % 2:
            raise RefusedError(400, "malformed", "sound is signed 16 bit, so it has an even number of bytes")
        segment = await self._service.push(session, pcm, rate) if pcm else None
        if integer(request.query.get("end"), "end", 0) and segment != -1:
            session.end_of_segment()
        return web.json_response({"segment": -1 if segment is None else segment, "ahead_s": round(session.ahead_s, 3)})

    async def end(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/end``: the utterance is complete."""
        return await self._obey(request, {"type": "end"})

    async def clear(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/clear``: stop speaking -> ``segment``, ``played_ms``."""
        return await self._obey(request, {"type": "clear"})

    async def text(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/text {"text": ..., "to": "speech" or "agent"}``"""
        message = await read_json(request)
        to = field(message, "to", str, "speech", limit=16)
        if to not in ("speech", "agent"):
            raise RefusedError(400, "malformed", "to is speech or agent")
        text = field(message, "text", str, limit=TEXT_CHARACTERS)
        return await self._obey(request, {"type": "say" if to == "speech" else "ask", "text": text})

    async def turn_end(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/turn_end``: the viewer has said all, to an agent that does not hear it itself."""
        return await self._obey(request, {"type": "turn_end"})

    async def avatar(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/avatar {"id": ...}``: become another avatar."""
        message = await read_json(request)
        return await self._obey(request, {"type": "avatar", "id": field(message, "id", str, limit=64)})

    async def record(self, request: web.Request) -> web.Response:
        """``POST /sessions/{session}/recording {"consent": true}``: record from now on -> its name."""
        message = await read_json(request)
        if self._service.recordings is None:
            raise RefusedError(409, "no_recordings", "this server records nothing; see --recordings")
        if message.get("consent") is not True:
            raise RefusedError(403, "consent_required", "recording people needs their consent: send consent true")
        session = self._session(request)
        if await asyncio.to_thread(_bytes_kept, self._service.recordings) > self._service.limits.recordings_bytes:
            raise RefusedError(507, "recordings_full", "the folder of recordings is full; remove some")
        name = secrets.token_hex(16)
        session.record(self._service.recordings / f"{name}.mp4")
        return web.json_response({"recording": name}, status=201)

    async def stop_recording(self, request: web.Request) -> web.Response:
        """``DELETE /sessions/{session}/recording`` -> the name it can be fetched by."""
        path = await self._session(request).stop_recording()
        return web.json_response({"recording": path.stem})

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """``GET /recordings/{recording}``"""
        name = check_id(request.match_info["recording"])
        folder = self._service.recordings
        path = None if folder is None else folder / f"{name}.mp4"
        if path is None or not await asyncio.to_thread(_is_recording, path):
            raise RefusedError(404, "not_found", "there is no such recording")
        return web.FileResponse(path, headers={"Content-Disposition": f'attachment; filename="{name}.mp4"'})

    async def _obey(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        return web.json_response(await obey(self._service, self._session(request), message))

    def _session(self, request: web.Request) -> LiveSession:
        return self._service.session(check_id(request.match_info["session"]))

    def _facts(self, session: LiveSession) -> dict[str, Any]:
        return {
            "id": session.id,
            "fps": float(session.fps),
            "viewers": session.viewers,
            "ahead_s": round(session.ahead_s, 3),
            "ice_servers": self._service.media.ice_facts(secret=True),
        }

    def _ticket(self, session: LiveSession, seconds: int) -> dict[str, Any]:
        ticket = self._service.gate.tickets.issue(f"session:{session.id}", seconds)
        ice_servers = self._service.media.ice_facts(secret=True)
        return {"ticket": ticket, "ticket_expires_in": seconds, "ice_servers": ice_servers}


def _bytes_kept(folder: Path) -> int:
    """Of all recordings in a folder, which is made if absent."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = 0
    for path in folder.glob("*.mp4"):
        with suppress(FileNotFoundError):  # removed a moment ago
            kept += path.stat().st_size
    return kept


def _is_recording(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
