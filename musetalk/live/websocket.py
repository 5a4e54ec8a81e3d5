"""A session over one WebSocket, for programs: sound and commands up, pictures, sound and events down.

The first message is text: ``{"type": "start", "rate": 24000, "video": "jpeg", "audio": true, "quality": 80}``; video is
``jpeg``, ``raw`` (uint8 RGB) or ``none``. The server answers ``{"type": "ready", "session", "fps"}``. From then on

* a binary message up is mono sound, signed 16 bit little endian, at ``rate`` Hz;
* a text message up is a command of :mod:`musetalk.live.control`, or ``start`` again to change ``rate``;
* a text message down is an event;
* a binary message down is a header of 16 bytes, little endian, and its data:

====== ====== =====================================================================
offset type   meaning
====== ====== =====================================================================
0      uint8  1 JPEG picture, 2 raw picture, 3 sound (mono, signed 16 bit little endian)
1      uint8  1 while the avatar speaks (pictures)
2      uint16 width in pixels (pictures)
4      uint16 height in pixels (pictures)
6      uint16 sample rate in 50 Hz (sound): 480 is 24,000 Hz
8      int64  time stamp: frames of the session (pictures), samples at the rate (sound)
====== ====== =====================================================================

Who reads too slowly loses pictures, never sound. Messages that make no sense are answered with an ``error`` event;
sixteen of them end the connection.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from ..errors import MuseTalkError
from .control import MESSAGE_BYTES, MOST_MALFORMED
from .errors import LiveError, SessionClosedError
from .gate import TICKET_PROTOCOL
from .requests import field, parse_object
from .security import RefusedError
from .timeline import PACKETS_PER_SECOND, AudioItem, MediaItem, VideoItem, check_rate

if TYPE_CHECKING:
    from .service import LiveService, LiveSession

HEADER = struct.Struct("<BBHHHq")
JPEG, RAW, SOUND = 1, 2, 3
PROTOCOL = "musetalk.live"
_MESSAGE_LIMIT = 1 << 20
_START_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
# Sound that waits here while the session has enough ahead; with more, nothing is read until some was played.
_WAITING_BYTES = 16 << 20
_VIDEO = {"jpeg": JPEG, "raw": RAW, "none": 0}


class Conversation:
    """One WebSocket of a session."""

    def __init__(self, service: LiveService, session: LiveSession, socket: web.WebSocketResponse) -> None:
        self._service = service
        self._session = session
        self._socket = socket
        self._rate = 0
        self._video = 0
        self._sound = True
        self._quality = 80
        self._malformed = 0
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue(256)
        self._sound_up: deque[tuple[bytes, int]] = deque()
        self._waiting = 0
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Serve until either side ends it."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._await_start(), _START_SECONDS)
        if not self._rate:
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"no start message")
            return
        leave = self._service.join(self._session, self._tell)
        parts = (self._receive(), self._push(), self._send_media(), self._send_events())
        works = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave()
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            await self._socket.close()

    async def _await_start(self) -> None:
        while not self._rate and not self._socket.closed:
            if not await self._handle(await self._socket.receive()):
                return

    async def _receive(self) -> None:
        while await self._handle(await self._socket.receive()):
            pass

    async def _handle(self, message: Any) -> bool:
        """Whether there is a next message."""
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return False
        try:
            if message.type is WSMsgType.BINARY:
                await self._hear(message.data)
            else:
                await self._command(message.data)
        except Exception as error:
            _, code, text = self._service.gate.describe(error)
            await self._socket.send_json({"type": "error", "code": code, "message": text})
            self._malformed += code == "malformed"
            if self._malformed >= MOST_MALFORMED:
                await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many malformed messages")
                return False
        return True

    async def _hear(self, pcm: bytes) -> None:
        if not self._rate:
            raise RefusedError(400, "malformed", "send a start message before sound")
        if len(pcm) % 2 or not pcm:
            raise RefusedError(
                400, "malformed", "sound is signed 16 bit, so a message has an even number of bytes, above 0"
            )
        self._sound_up.append((pcm, self._rate))
        self._waiting += len(pcm)
        self._moved.set()
        while self._waiting > _WAITING_BYTES:
            self._moved.clear()
            await self._moved.wait()

    async def _push(self) -> None:
        """Give the session its sound and the ends of utterances in order; empty sound is an end."""
        while True:
            while not self._sound_up:
                self._moved.clear()
                await self._moved.wait()
            pcm, rate = self._sound_up.popleft()
            self._waiting -= len(pcm)
            self._moved.set()
            try:
                if pcm:
                    await self._session.push_pcm(pcm, rate)
                else:
                    self._session.end_of_segment()
            except MuseTalkError as error:
                _, code, text = self._service.gate.describe(error)
                self._tell({"type": "error", "code": code, "message": text})
                if isinstance(error, SessionClosedError):
                    return

    async def _command(self, text: str) -> None:
        if len(text) > MESSAGE_BYTES:
            raise RefusedError(400, "malformed", f"a text message has at most {MESSAGE_BYTES} characters")
        message = parse_object(text)
        if message.get("type") == "start":
            self._start(message)
            ready = {"type": "ready", "session": self._session.id, "fps": float(self._session.fps)}
            await self._socket.send_json(ready)
        elif not self._rate:
            raise RefusedError(400, "malformed", "send a start message first")
        elif message.get("type") == "end":
            self._sound_up.append((b"", 0))
            self._moved.set()
            await self._socket.send_json({"type": "ended"})
        else:
            if message.get("type") == "clear":
                self._sound_up.clear()
                self._waiting = 0
                self._moved.set()
            await self._socket.send_json(await self._service.obey(self._session, message))

    def _start(self, message: dict[str, Any]) -> None:
        video = field(message, "video", str, "jpeg", limit=8)
        quality = field(message, "quality", int, 80)
        if video not in _VIDEO or not 1 <= quality <= 100:
            raise RefusedError(400, "malformed", "video is jpeg, raw or none; quality is 1 to 100")
        sound = field(message, "audio", bool, True)
        self._rate = check_rate(field(message, "rate", int, 24000))
        self._video, self._quality, self._sound = _VIDEO[video], quality, sound

    def _tell(self, event: dict[str, Any]) -> None:
        with suppress(asyncio.QueueFull):
            self._events.put_nowait(event)

    async def _send_events(self) -> None:
        with suppress(ConnectionError):
            while True:
                await self._socket.send_str(json.dumps(await self._events.get()))

    async def _send_media(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError, LiveError):
            async with self._session.media() as items:
                speaking = None
                async for item in items:
                    if isinstance(item, VideoItem) and item.speaking != speaking:
                        speaking = item.speaking
                        self._tell({"type": "speaking", "value": speaking, "frame": item.pts_frames})
                    if isinstance(item, AudioItem):
                        if self._sound:
                            await self._socket.send_bytes(pack_sound(item))
                    elif self._video:
                        packed = loop.run_in_executor(
                            self._service.executor, pack_picture, item, self._video, self._quality
                        )
                        await self._socket.send_bytes(await packed)


def pack_sound(item: AudioItem) -> bytes:
    """20 ms of sound as a binary message."""
    return HEADER.pack(SOUND, 0, 0, 0, item.rate // PACKETS_PER_SECOND, item.pts_samples) + item.pcm


def pack_picture(item: VideoItem, kind: int, quality: int = 80) -> bytes:
    """A picture as a binary message of ``kind`` JPEG or RAW."""
    height, width = item.image.shape[:2]
    header = HEADER.pack(kind, item.speaking, width, height, 0, item.pts_frames)
    if kind == RAW:
        return header + np.ascontiguousarray(item.image).tobytes()
    _, data = cv2.imencode(".jpg", cv2.cvtColor(item.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return header + data.tobytes()


def unpack(message: bytes) -> MediaItem | tuple[int, bytes, bool]:
    """What :func:`pack_sound` and :func:`pack_picture` packed; a JPEG stays as (time stamp, file, speaking)."""
    kind, flags, width, height, rate, pts = HEADER.unpack_from(message)
    data = message[HEADER.size :]
    if kind == SOUND:
        return AudioItem(pts, data, rate * PACKETS_PER_SECOND)
    if kind == RAW:
        return VideoItem(pts, np.frombuffer(data, np.uint8).reshape(height, width, 3), bool(flags))
    return pts, data, bool(flags)


async def serve_socket(service: LiveService, session: LiveSession, request: web.Request) -> web.WebSocketResponse:
    """The WebSocket of a session, from its handshake to its end."""
    service.check_viewers()
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    # A browser wants one of the protocols it offered; a ticket is one, but is not repeated in an answer.
    protocols = (PROTOCOL,) if TICKET_PROTOCOL in offered or PROTOCOL in offered else ()
    socket = web.WebSocketResponse(
        heartbeat=20, timeout=_CLOSE_SECONDS, max_msg_size=_MESSAGE_LIMIT, protocols=protocols
    )
    await socket.prepare(request)
    await Conversation(service, session, socket).run()
    return socket
