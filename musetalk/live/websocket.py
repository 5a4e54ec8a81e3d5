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

Who reads too slowly loses pictures, never sound. Sound may be sent faster than it is spoken: two minutes of it may
wait, what comes on top is refused. What is refused is answered with an ``error`` event; sixteen of them in a short time
end the connection. A viewer for whom there is no place is told so, and closed with code 1013.
"""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from ..errors import MuseTalkError
from .control import CommandLane
from .errors import LiveError, SessionClosedError, SessionLimitError
from .gate import TICKET_PROTOCOL
from .requests import field
from .security import RefusedError
from .sound_up import SoundUp
from .timeline import PACKETS_PER_SECOND, AudioItem, MediaItem, VideoItem, check_rate

if TYPE_CHECKING:
    from .service import LiveService, LiveSession
    from .viewers import Viewer

HEADER = struct.Struct("<BBHHHq")
JPEG, RAW, SOUND = 1, 2, 3
PROTOCOL = "musetalk.live"
_MESSAGE_LIMIT = 1 << 20
_START_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
# How many events a client that does not read may leave behind.
_EVENTS = 256
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
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_EVENTS)
        self._commands = CommandLane(self._carry_out, self.tell, service.gate.describe)
        self._sound_up = SoundUp()

    async def run(self) -> None:
        """Serve until either side ends it."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._await_start(), _START_SECONDS)
        if not self._rate:
            await self._end(WSCloseCode.POLICY_VIOLATION, b"no start message")
            return
        try:
            items = self._session.media()
        except MuseTalkError as error:
            self._commands.refuse(error)
            full = isinstance(error, SessionLimitError)
            await self._end(WSCloseCode.TRY_AGAIN_LATER if full else WSCloseCode.POLICY_VIOLATION, b"no place")
            return
        async with items:
            self._tell_ready()
            # Before any picture or sound.
            with suppress(ConnectionError):
                await self._flush()
            await self._converse(items)
        if self._commands.expelled.is_set():
            await self._end(WSCloseCode.POLICY_VIOLATION, b"too many refused messages")
        else:
            await self._end(WSCloseCode.OK, b"")

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event, in its turn; one that finds too many waiting is lost."""
        with suppress(asyncio.QueueFull):
            self._events.put_nowait(event)

    async def _converse(self, items: Viewer) -> None:
        parts = (
            self._receive(),
            self._push(),
            self._send_media(items),
            self._send_events(),
            self._commands.run(),
            self._commands.expelled.wait(),
        )
        works = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _end(self, code: int, reason: bytes) -> None:
        """Close, after the events that wait."""
        with suppress(ConnectionError, asyncio.TimeoutError):
            await asyncio.wait_for(self._flush(), _CLOSE_SECONDS)
        await self._socket.close(code=code, message=reason)

    async def _flush(self) -> None:
        while not self._events.empty() and not self._socket.closed:
            await self._socket.send_str(json.dumps(self._events.get_nowait()))

    async def _await_start(self) -> None:
        while not self._rate and not self._commands.expelled.is_set():
            if not self._handle(await self._socket.receive()):
                return

    async def _receive(self) -> None:
        while self._handle(await self._socket.receive()):
            pass

    def _handle(self, message: Any) -> bool:
        """Whether there is a next message. Nothing is waited for: a ``clear`` behind this one is read at once."""
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return False
        try:
            if message.type is WSMsgType.BINARY:
                self._hear(message.data)
            else:
                self._command(message.data)
        except Exception as error:
            self._commands.refuse(error)
        return True

    def _hear(self, pcm: bytes) -> None:
        if not self._rate:
            raise RefusedError(400, "malformed", "send a start message before sound")
        if len(pcm) % 2 or not pcm:
            raise RefusedError(
                400, "malformed", "sound is signed 16 bit, so a message has an even number of bytes, above 0"
            )
        self._sound_up.put(pcm, self._rate)

    async def _push(self) -> None:
        """Give the session its sound and the ends of utterances, in order."""
        while True:
            pcm, rate = await self._sound_up.get()
            try:
                if pcm:
                    await self._session.push_pcm(pcm, rate)
                else:
                    self._session.end_of_segment()
            except SessionClosedError as error:
                self._commands.refuse(error)
                return
            except MuseTalkError as error:
                self._commands.refuse(error)

    def _command(self, text: str) -> None:
        message = self._commands.read(text)
        kind = message.get("type")
        if kind == "start":
            begun = bool(self._rate)
            self._start(message)
            if begun:
                self._tell_ready()
        elif not self._rate:
            raise RefusedError(400, "malformed", "send a start message first")
        elif kind == "end":
            self._sound_up.end()
            self.tell({"type": "ended"})
        else:
            if kind == "clear":
                self._sound_up.clear()
            self._commands.put(message)

    async def _carry_out(self, message: dict[str, Any]) -> dict[str, Any]:
        return await self._service.obey(self._session, message)

    def _tell_ready(self) -> None:
        self.tell({"type": "ready", "session": self._session.id, "fps": float(self._session.fps)})

    def _start(self, message: dict[str, Any]) -> None:
        video = field(message, "video", str, "jpeg", limit=8)
        quality = field(message, "quality", int, 80)
        if video not in _VIDEO or not 1 <= quality <= 100:
            raise RefusedError(400, "malformed", "video is jpeg, raw or none; quality is 1 to 100")
        sound = field(message, "audio", bool, True)
        self._rate = check_rate(field(message, "rate", int, 24000))
        self._video, self._quality, self._sound = _VIDEO[video], quality, sound

    async def _send_events(self) -> None:
        with suppress(ConnectionError):
            while True:
                await self._socket.send_str(json.dumps(await self._events.get()))

    async def _send_media(self, items: Viewer) -> None:
        loop = asyncio.get_running_loop()
        speaking = None
        try:
            async for item in items:
                if isinstance(item, VideoItem) and item.speaking != speaking:
                    speaking = item.speaking
                    self.tell({"type": "speaking", "value": speaking, "frame": item.pts_frames})
                if isinstance(item, AudioItem):
                    if self._sound:
                        await self._socket.send_bytes(pack_sound(item))
                elif self._video:
                    packed = loop.run_in_executor(
                        self._service.executor, pack_picture, item, self._video, self._quality
                    )
                    await self._socket.send_bytes(await packed)
        except LiveError as error:
            self._commands.refuse(error)
        except ConnectionError:
            return


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
        heartbeat=20,
        timeout=_CLOSE_SECONDS,
        max_msg_size=_MESSAGE_LIMIT,
        protocols=protocols,
        # Sound and pictures do not shrink, and what a client sends must not grow when it is unpacked.
        compress=False,
    )
    conversation = Conversation(service, session, socket)
    leave = service.join(session, conversation.tell)
    try:
        await socket.prepare(request)
        await conversation.run()
    finally:
        leave()
    return socket
