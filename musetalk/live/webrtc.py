"""WebRTC viewers, the WHEP way: an offer is answered whole, and the peer lives until either side leaves."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamTrack
from aiortc.sdp import SessionDescription

from ..errors import MuseTalkError
from .control import CommandLane
from .encoding import VideoEncoder
from .errors import LiveError
from .security import RefusedError
from .timeline import VideoItem
from .tracks import ViewerTracks, microphone_packets

if TYPE_CHECKING:
    from .service import LiveSession

log = logging.getLogger(__name__)

CHANNEL = "musetalk"
SDP_BYTES = 64 << 10
_MOST_CANDIDATES = 64
_MOST_SECTIONS = 4
_MOST_EVENTS_WAITING = 64 << 10
_SETTLE_SECONDS = 2.0
_RECEIVING = ("recvonly", "sendrecv")

Obey = Callable[["LiveSession", dict[str, Any]], Awaitable[dict[str, Any]]]
Hear = Callable[["LiveSession", bytes, int], Awaitable[None]]


@dataclass(frozen=True)
class MediaSettings:
    """How viewers are served.

    codec: tried first, ``"H264"`` or ``"VP8"``; the other is taken where an offer lacks it. bitrate: video, bits per
    second; None chooses by the size of the picture. ice_servers: STUN and TURN servers; none by default, so that no
    third party learns of a session. connect_s: seconds until a viewer that never connects is let go.
    """

    codec: str = "H264"
    bitrate: int | None = None
    ice_servers: tuple[RTCIceServer, ...] = ()
    connect_s: float = 30.0

    def ice_facts(self, *, secret: bool) -> list[dict[str, Any]]:
        """The servers as a browser wants them; those with a credential only for those who may see it (``secret``)."""
        return [
            {"urls": server.urls, "username": server.username, "credential": server.credential}
            for server in self.ice_servers
            if secret or server.credential is None
        ]


class Peer:
    """One WebRTC viewer. ``on_close`` is called once, whoever leaves first.

    obey: carries out a message of the data channel. hear: takes the viewer's microphone, None drops it. heard: called
    when that ends. fail: puts an error into words, as (status, code, message).
    """

    def __init__(
        self,
        session: LiveSession,
        settings: MediaSettings,
        executor: Executor,
        *,
        obey: Obey,
        fail: Callable[[Exception], tuple[int, str, str]],
        hear: Hear | None = None,
        heard: Callable[[], None] | None = None,
        on_close: Callable[[Peer], None] = lambda _: None,
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self.session = session
        self._settings = settings
        self._executor = executor
        self._commands = CommandLane(lambda message: obey(session, message), self.send, fail)
        self._hear = hear
        self._heard = heard
        self._fail = fail
        self._on_close = on_close
        # Without a list of its own, aiortc asks a public STUN server.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=list(settings.ice_servers)))
        self._channel: RTCDataChannel | None = None
        self._tracks: ViewerTracks | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._speaking: bool | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``connected``, ``failed`` or ``closed``."""
        return "closed" if self._closing is not None else self._connection.connectionState

    async def answer(self, offer: str) -> str:
        """The SDP answer to an SDP offer. Raises RefusedError for one that cannot be served, and closes the peer."""
        try:
            return await self._answer(offer)
        except (RefusedError, LiveError, asyncio.CancelledError):
            await self.close()
            raise
        except Exception as error:
            await self.close()
            log.info("an offer was refused: %r", error)
            raise RefusedError(400, "bad_offer", "the offer cannot be answered") from error

    def send(self, event: dict[str, Any]) -> None:
        """Send an event over the data channel, if there is one that is not clogged."""
        channel = self._channel
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount < _MOST_EVENTS_WAITING:
            channel.send(json.dumps(event))

    async def close(self) -> None:
        """Let the viewer go and free all of it. Whoever calls, also again, returns when that is done."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        # Shielded: it goes on, whoever stops waiting for it.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if self._tracks is not None:
                await self._tracks.close()
            await close_connection(self._connection)
        finally:
            self._on_close(self)

    async def _answer(self, offer: str) -> str:
        wanted = _wanted(offer)
        connection = self._connection
        connection.on("connectionstatechange", self._connection_changed)
        connection.on("datachannel", self._channel_opened)
        connection.on("track", self._track_opened)
        self._tracks = tracks = ViewerTracks(self.session.media(), self._executor, self._shown, self.session.fps)
        if "video" in wanted:
            sender = connection.addTrack(tracks.video)
            # A viewer that lost packets asks the sender; the pictures come encoded, so the request is handed on.
            sender._send_keyframe = tracks.video.request_keyframe  # type: ignore[method-assign]
        if "audio" in wanted:
            connection.addTrack(tracks.audio)
        for transceiver in connection.getTransceivers():
            transceiver.setCodecPreferences(_preferred(transceiver.kind, self._settings.codec))
        await connection.setRemoteDescription(RTCSessionDescription(filter_candidates(offer), "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        answer = connection.localDescription.sdp
        codec = _agreed_codec(answer)
        if codec is not None:
            tracks.video.encoder = VideoEncoder(codec, self.session.fps, self._settings.bitrate)
        self._spawn(self._pump(tracks))
        self._spawn(self._commands.run())
        self._spawn(self._expel())
        self._spawn(self._give_up())
        return answer

    async def _pump(self, tracks: ViewerTracks) -> None:
        try:
            await tracks.run()
        except LiveError as error:
            log.info("viewer %s: %s", self.id, error)
        self._leave()

    async def _expel(self) -> None:
        await self._commands.expelled.wait()
        log.info("viewer %s: too many of its messages were refused", self.id)
        self._leave()

    def _leave(self) -> None:
        """Begin to close, from one of the tasks that closing ends."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())

    async def _give_up(self) -> None:
        await asyncio.sleep(self._settings.connect_s)
        if self._connection.connectionState != "connected":
            log.info("viewer %s did not connect within %g s", self.id, self._settings.connect_s)
            self._leave()

    def _connection_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected" and self._tracks is not None:
            self._tracks.begin()
        elif state in ("failed", "closed"):
            self._leave()

    def _shown(self, item: VideoItem) -> None:
        if item.speaking != self._speaking:
            self._speaking = item.speaking
            self.send({"type": "speaking", "value": item.speaking, "frame": item.pts_frames})

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._channel is not None:
            channel.close()
            return
        self._channel = channel
        channel.on("message", self._message)
        self.send({"type": "ready", "session": self.session.id, "fps": float(self.session.fps)})

    def _message(self, text: str | bytes) -> None:
        try:
            self._commands.put(self._commands.read(text))
        except RefusedError as error:
            self._commands.refuse(error)

    def _track_opened(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._spawn(self._listen(track))
        else:
            track.stop()

    async def _listen(self, track: MediaStreamTrack) -> None:
        told = ""
        try:
            async for pcm, rate in microphone_packets(track):
                if self._hear is None:
                    continue
                try:
                    await self._hear(self.session, pcm, rate)
                    told = ""
                except MuseTalkError as error:
                    # It goes on, and tells each kind of trouble once, not fifty times a second.
                    _, code, message = self._fail(error)
                    if code != told:
                        told = code
                        self.send({"type": "error", "code": code, "message": message})
        finally:
            if self._heard is not None and not self.session.closed:
                self._heard()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def close_connection(connection: RTCPeerConnection) -> None:
    """Close a peer connection; one that is coming about is given a moment to do so, or to fail.

    Closed halfway, aiortc and aioice start tasks for the peer afterwards that nobody ends.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_SECONDS
    negotiated = connection.localDescription is not None and connection.remoteDescription is not None
    while negotiated and connection.connectionState in ("new", "connecting") and loop.time() < deadline:
        await asyncio.sleep(0.02)
    await connection.close()


def filter_candidates(offer: str) -> str:
    """The offer without the addresses that no viewer has, so that it cannot make the server knock on other doors.

    Kept are unicast addresses and mDNS names with an unprivileged port. Raises RefusedError for a flood of them.
    """
    lines = offer.splitlines()
    if sum(line.startswith("a=candidate:") for line in lines) > _MOST_CANDIDATES:
        raise RefusedError(400, "bad_offer", f"the offer has more than {_MOST_CANDIDATES} candidates")
    kept = [line for line in lines if not line.startswith("a=candidate:") or _is_plausible(line.split())]
    return "\r\n".join(kept) + "\r\n"


def _is_plausible(candidate: list[str]) -> bool:
    if len(candidate) < 8 or not candidate[5].isdigit() or not 1024 <= int(candidate[5]) <= 65535:
        return False
    try:
        address = ipaddress.ip_address(candidate[4])
    except ValueError:
        return candidate[4].endswith(".local") and len(candidate[4]) < 64
    return not (address.is_multicast or address.is_unspecified or (address.version == 4 and address.is_link_local))


def _wanted(offer: str) -> set[str]:
    """The kinds of media that the offer receives."""
    sections = SessionDescription.parse(offer).media
    if len(sections) > _MOST_SECTIONS:
        raise RefusedError(400, "bad_offer", f"the offer has more than {_MOST_SECTIONS} media sections")
    wanted = {section.kind for section in sections if section.direction in _RECEIVING}
    if not wanted & {"audio", "video"}:
        raise RefusedError(400, "bad_offer", "the offer receives neither video nor audio")
    return wanted


def _preferred(kind: str, codec: str) -> list[Any]:
    """The codecs to agree on, in order; it must be settled before the offer is applied."""
    codecs = RTCRtpSender.getCapabilities(kind).codecs
    if kind == "audio":
        return [known for known in codecs if known.mimeType == "audio/opus"]
    return sorted(codecs, key=lambda known: known.mimeType != f"video/{codec}")


def _agreed_codec(answer: str) -> str | None:
    """``"H264"``, ``"VP8"``, or None where no video was agreed on."""
    for section in SessionDescription.parse(answer).media:
        if section.kind == "video" and section.port and section.rtp.codecs:
            return section.rtp.codecs[0].name
    return None
