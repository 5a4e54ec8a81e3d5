"""The whole way of a conversation, without models: a viewer's browser, our server, an agent's server.

The viewer is an aiortc peer with a microphone; sessions, routes and transports are the real ones, and only the networks
behind them answer by rule.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from musetalk.live.agents.endpoint import Endpoint, Secret
from musetalk.live.agents.openai_realtime import OpenAIRealtime
from musetalk.live.agents.realtime_events import RealtimeConfig
from musetalk.live.manager import SessionManager
from musetalk.live.server import create_app
from musetalk.live.service import AgentFactory, AgentRole, LiveService
from musetalk.live.timeline import AudioItem

from ..transports.watcher import frames_of
from .calls import KEY
from .fake_realtime import RATE, FakeRealtime, Script, tone
from .sinks import until

MIC_RATE, MIC_PACKET = 48000, 960
MIC_HERTZ = 440.0
LOUD = 1000


class Microphone(MediaStreamTrack):
    """Silence in packets of 20 ms, as fast as they are spoken, and the viewer's voice where ``say`` puts it."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._to_say = b""
        self._packets = 0
        self._begin: float | None = None

    def say(self, ms: int) -> None:
        self._to_say += tone(ms, MIC_HERTZ, MIC_RATE)

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        self._begin = self._begin or loop.time()
        await asyncio.sleep(max(0.0, self._begin + self._packets * MIC_PACKET / MIC_RATE - loop.time()))
        pcm, self._to_say = self._to_say[: 2 * MIC_PACKET], self._to_say[2 * MIC_PACKET :]
        frame = AudioFrame.from_ndarray(np.frombuffer(pcm.ljust(2 * MIC_PACKET, b"\0"), "<i2")[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = MIC_RATE, self._packets * MIC_PACKET, Fraction(1, MIC_RATE)
        self._packets += 1
        return frame


class Viewer:
    """A browser: picture and sound down, microphone up, commands and events over the data channel.

    sound: (seconds, loudest sample) of each 20 ms that came. events: what the data channel brought.
    """

    def __init__(self) -> None:
        self.microphone = Microphone()
        self.pictures = 0
        self.sound: list[tuple[float, int]] = []
        self.samples: list[np.ndarray] = []
        self.events: list[dict[str, Any]] = []
        self._connection = RTCPeerConnection()
        self._channel = self._connection.createDataChannel("musetalk")
        self._channel.on("message", lambda text: self.events.append(json.loads(text)))
        self._tasks: list[asyncio.Task[None]] = []
        self._connection.addTransceiver("video", direction="recvonly")
        self._connection.addTrack(self.microphone)
        self._connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._watch(track))))

    async def join(self, http: ClientSession, url: str) -> None:
        await self._connection.setLocalDescription(await self._connection.createOffer())
        offer, headers = self._connection.localDescription.sdp, {"Content-Type": "application/sdp"}
        async with http.post(url, data=offer, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == 201, text
        await self._connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        await until(lambda: any(event["type"] == "ready" for event in self.events) and self.sound)

    async def leave(self) -> None:
        await self._connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def command(self, **message: Any) -> None:
        self._channel.send(json.dumps(message))

    def told(self, kind: str) -> list[dict[str, Any]]:
        """News of the agent, of one kind."""
        return [event for event in self.events if event["type"] == "agent" and event["kind"] == kind]

    def errors(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == "error"] + self.told("error")

    def spoken(self) -> list[tuple[float, float]]:
        """From when to when the avatar was heard, in seconds of the session: each stretch without a quiet 100 ms."""
        loud = [time for time, level in self.sound if level > LOUD]
        begins = [time for i, time in enumerate(loud) if i == 0 or time - loud[i - 1] > 0.1]
        ends = [time for i, time in enumerate(loud) if i + 1 == len(loud) or loud[i + 1] - time > 0.1]
        return [(begin, end + 0.02) for begin, end in zip(begins, ends, strict=True)]

    async def hears(self, times: int) -> None:
        """Wait until the avatar has been heard, and fallen silent, so often."""
        await until(
            lambda: (
                len(self.spoken()) >= times
                and len(self.sound) >= 10
                and all(level <= LOUD for _, level in self.sound[-10:])
            )
        )

    async def _watch(self, track: MediaStreamTrack) -> None:
        async for frame in frames_of(track):
            if track.kind == "video":
                self.pictures += 1
            else:
                samples = frame.to_ndarray().reshape(-1, 2)[:, 0]
                self.samples.append(samples)
                self.sound.append((frame.time, int(np.abs(samples.astype(int)).max())))


class Stage:
    """viewer: see there. agent: the conformance server. given: the sound that viewers were given, at the agent's rate,
    exactly as it left the session."""

    def __init__(self, viewer: Viewer, agent: FakeRealtime, given: list[bytes]) -> None:
        self.viewer, self.agent, self.given = viewer, agent, given

    def answers(self) -> list[bytes]:
        """What was given of each answer, one after the other: silence of 100 ms divides them."""
        sound = np.frombuffer(b"".join(self.given), "<i2")
        loud = np.flatnonzero(sound)
        if not len(loud):
            return []
        # The tone begins with a zero, and has single zeros within.
        parts = np.split(loud, np.flatnonzero(np.diff(loud) > 2400) + 1)
        return [sound[part[0] - 1 : part[-1] + 1].tobytes() for part in parts]


@asynccontextmanager
async def serving(
    fakes: ModuleType, agents: dict[AgentRole, AgentFactory]
) -> AsyncIterator[tuple[ClientSession, str, list[bytes]]]:
    """A server with one session: a client of its address, the session's id, and the sound of 24 kHz that viewers get.

    Fails when anything of it is left running.
    """
    before = asyncio.all_tasks()
    store = SimpleNamespace(open=lambda _: fakes.FakeAvatar(), close=lambda: None)
    service = LiveService(SessionManager(fakes.FakeEngine(), store, fakes.FakeFeatures), store, agents=agents)
    server, given = TestServer(create_app(service)), []
    await server.start_server()

    async def collect(items: Any) -> None:
        async for item in items:
            if isinstance(item, AudioItem) and item.rate == RATE:
                given.append(item.pcm)

    try:
        async with ClientSession(str(server.make_url("/"))) as http:
            session = await service.create_session("ada")
            async with session.media() as items:
                collecting = asyncio.create_task(collect(items))
                yield http, session.id, given
            await collecting
    finally:
        await server.close()
        await until(lambda: all(task.done() for task in asyncio.all_tasks() - before), 5)


def talk(fakes: ModuleType, conversation: Any, script: Script | None = None, **options: Any) -> Stage:
    """Hold a conversation: ``await conversation(stage)``. options: of the RealtimeConfig.

    Fails when the agent's server was sent anything that the openai SDK's types do not allow, or anything is left over.
    """

    async def main() -> Stage:
        async with FakeRealtime(script or Script(key=KEY)) as agent:
            config = RealtimeConfig(Endpoint(agent.url, Secret(KEY)), model="local", **options)
            agents: dict[AgentRole, AgentFactory] = {"agent": lambda sink, tell: OpenAIRealtime(config, sink, tell)}
            async with serving(fakes, agents) as (http, session, given):
                viewer = Viewer()
                stage = Stage(viewer, agent, given)
                try:
                    await viewer.join(http, f"sessions/{session}/whep?microphone=agent")
                    await until(lambda: "session.updated" in agent.sent)
                    await conversation(stage)
                finally:
                    await viewer.leave()
            assert agent.violations == []
            return stage

    return asyncio.run(asyncio.wait_for(main(), 120))
