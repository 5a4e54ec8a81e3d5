"""A WHEP player: what a browser would be, and what a test sees of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import numpy as np
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack
from av.frame import Frame

from musetalk.live.webrtc import close_connection


async def frames_of(track: MediaStreamTrack) -> AsyncIterator[Frame]:
    """What comes of a track, until it ends."""
    with suppress(MediaStreamError):
        while True:
            yield await track.recv()


class Watcher:
    """A WHEP player with a data channel. frames: (seconds, brightness) of pictures; samples: of sound, at 48 kHz."""

    def __init__(self, *, microphone: bool = False, codec: str | None = None) -> None:
        self.frames: list[tuple[float, float]] = []
        self.sounds: list[np.ndarray] = []
        self.sound_times: list[float] = []
        self.events: list[dict] = []
        self.location = ""
        self.connection = RTCPeerConnection()
        self.channel = self.connection.createDataChannel("musetalk")
        self.channel.on("message", lambda text: self.events.append(json.loads(text)))
        self._codec = codec
        self._tasks: list[asyncio.Task] = []
        self.connection.addTransceiver("video", direction="recvonly")
        if microphone:
            self.connection.addTrack(AudioStreamTrack())
        else:
            self.connection.addTransceiver("audio", direction="recvonly")
        self.connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._watch(track))))

    async def _watch(self, track) -> None:
        async for frame in frames_of(track):
            if track.kind == "video":
                self.frames.append((frame.time, float(frame.to_ndarray(format="gray").mean())))
            else:
                self.sound_times.append(frame.time)
                self.sounds.append(frame.to_ndarray().reshape(-1, 2)[:, 0])

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        sdp = self.connection.localDescription.sdp
        if self._codec == "VP8":
            sdp = re.sub(r"H264/90000", "H263/90000", sdp)
        return sdp

    async def join(self, server, session: str, query: str = "") -> str:
        url = server.url(f"/sessions/{session}/whep{query}")
        headers = {"Content-Type": "application/sdp"}
        async with server.http.post(url, data=await self.offer(), headers=headers) as answer:
            text = await answer.text()
            assert answer.status == 201, text
            assert answer.content_type == "application/sdp"
            self.location = answer.headers["Location"]
        await self.connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        return text

    async def leave(self) -> None:
        await close_connection(self.connection)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until(condition, seconds: float = 5.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
