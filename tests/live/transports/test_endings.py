"""Whoever comes and goes, and however: nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

import aiohttp
import pytest
from aiohttp import web

from musetalk.live.agents.base import AgentError
from musetalk.live.errors import SessionClosedError
from musetalk.live.security import RefusedError
from musetalk.live.server import serve
from musetalk.live.timeline import Played
from musetalk.live.webrtc import Peer

from ..leftovers import Held
from .watcher import until


class SlowAgent:
    """An agent that starts, and stops speaking, when it is let."""

    def __init__(self, sink, listener) -> None:
        self.gate = asyncio.Event()
        self.closed = self.interrupted = False
        self.sink = sink

    async def start(self) -> None:
        await self.gate.wait()

    async def close(self) -> None:
        self.closed = True

    async def interrupt(self) -> None:
        self.interrupted = True
        await self.gate.wait()
        raise ConnectionError("gone")

    async def hear(self, pcm: bytes, rate: int) -> None:
        return

    async def send_text(self, text: str) -> None:
        if self.closed:
            raise AgentError("the conversation is over", "closed")


def test_an_agent_that_starts_when_its_session_ends_is_closed(live):
    async def run():
        made = []

        def make(sink, listener):
            made.append(SlowAgent(sink, listener))
            return made[-1]

        async with live(agents={"agent": make}) as server:
            session = server.service.session(await server.session())
            starting = asyncio.create_task(server.service.send_text(session, "hello", to_agent=True))
            while not made:
                await asyncio.sleep(0.01)
            await server.service.close_session(session.id)
            made[0].gate.set()
            with pytest.raises(SessionClosedError):
                await starting
            assert made[0].closed and len(made) == 1
            with pytest.raises(SessionClosedError):
                await server.service.hear(session, b"\0\0", 48000)
            assert not server.service._company

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_agent_whose_connection_is_gone_for_good_is_replaced(live):
    async def run():
        made = []

        def make(sink, listener):
            made.append(SlowAgent(sink, listener))
            made[-1].gate.set()
            return made[-1]

        async with live(agents={"agent": make}) as server:
            session = server.service.session(await server.session())
            await server.service.send_text(session, "hello", to_agent=True)
            made[0].closed = True
            await server.service.send_text(session, "are you there?", to_agent=True)
            assert len(made) == 2

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_interruption_silences_the_avatar_before_it_asks_the_agents(live):
    async def run():
        async with live(agents={"agent": SlowAgent}) as server:
            session = server.service.session(await server.session())
            cleared = []
            session.clear = lambda: cleared.append(1) or Played(0, 120)
            agent = SlowAgent(session, None)
            server.service._company[session.id].agents["agent"] = agent
            interrupting = asyncio.create_task(server.service.interrupt(session))
            while not agent.interrupted:
                assert len(cleared) <= 1
                await asyncio.sleep(0.01)
            assert cleared
            # Another may come meanwhile, and what the agent says of it is nobody's trouble.
            server.service._company[session.id].agents["speech"] = SlowAgent(session, None)
            agent.gate.set()
            assert await interrupting == Played(0, 120)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_sound_over_http_does_not_pile_up(live):
    async def run():
        async with live() as server:
            session = server.service.session(await server.session())
            room = asyncio.Event()

            async def never_room(pcm, rate):
                await room.wait()
                return -1

            session.push_pcm = never_room
            url = server.url(f"/sessions/{session.id}/audio?rate=24000&end=1")
            pushes = [asyncio.create_task(server.service.push(session, b"\0\0", 24000)) for _ in range(2)]
            await asyncio.sleep(0)
            async with server.http.post(url, data=b"\0\0") as answer:
                assert answer.status == 429, await answer.text()
            room.set()
            assert await asyncio.gather(*pushes) == [-1, -1]
            async with server.http.post(url, data=b"\0\0") as answer:
                assert (await answer.json())["segment"] == -1
            assert session.ended == 0, "the end of what was cleared ends what came after it"

    asyncio.run(asyncio.wait_for(run(), 20))


def test_two_hundred_viewers_come_and_go(live):
    async def run():
        async with live() as server:
            server.service.gate._requests.allows = lambda client: True
            url = server.url(f"/sessions/{await server.session()}/socket")
            for number in range(220):
                if number == 20:
                    held = Held.now()
                if number == 120:
                    halfway = Held.now()
                async with server.http.ws_connect(url) as watcher:
                    await watcher.send_json({"type": "start", "video": "jpeg"})
                    assert (await watcher.receive_json())["type"] == "ready"
            await until(lambda: server.service.viewers == 0 and asyncio.all_tasks() <= held.tasks, 20)
            held.assert_kept(200, 32 << 10, halfway)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_viewer_without_a_place_is_told(live):
    async def run():
        async with live() as server:
            session = await server.session()
            url = server.url(f"/sessions/{session}/socket")
            places = [server.service.session(session).media() for _ in range(4)]
            async with server.http.ws_connect(url) as watcher:
                assert server.service.viewers == 1, "it counts from its handshake on"
                await watcher.send_json({"type": "start"})
                assert (await watcher.receive_json())["code"] == "session_limit_reached"
                await watcher.receive()
                assert watcher.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
            for place in places:
                await place.aclose()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_offer_that_is_given_up_leaves_nothing(live, monkeypatch):
    async def run():
        async with live() as server:
            session = server.service.session(await server.session())
            reached = asyncio.Event()

            async def stuck(self, description):
                reached.set()
                await asyncio.sleep(60)

            monkeypatch.setattr("musetalk.live.webrtc.RTCPeerConnection.setRemoteDescription", stuck)
            offer = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\n"
            opening = asyncio.create_task(server.service.open_peer(session, offer, microphone="avatar"))
            await asyncio.wait_for(reached.wait(), 5)
            with pytest.raises(RefusedError, match="microphone"):
                await server.service.open_peer(session, offer, microphone="avatar")
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            assert server.service.viewers == session.viewers == 0
            assert server.service._company[session.id].microphone is None

    asyncio.run(asyncio.wait_for(run(), 20))


def test_whoever_closes_a_viewer_waits_until_it_is_closed(live, monkeypatch):
    async def run():
        async with live() as server:
            session = server.service.session(await server.session())
            gate, left = asyncio.Event(), []

            async def slowly(connection):
                await gate.wait()

            monkeypatch.setattr("musetalk.live.webrtc.close_connection", slowly)
            options = {"obey": server.service.obey, "fail": server.service.gate.describe, "on_close": left.append}
            peer = Peer(session, server.service.media, server.service.executor, **options)
            first, second = (asyncio.create_task(peer.close()) for _ in range(2))
            await asyncio.sleep(0.02)
            first.cancel()
            await asyncio.sleep(0.02)
            assert not second.done()
            gate.set()
            await second
            assert left == [peer]

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_preparation_that_runs_on_does_not_hold_the_server(live, monkeypatch):
    async def run():
        monkeypatch.setattr("musetalk.live.service._STORE_SECONDS", 0.1)
        async with live() as server:
            gate, close = threading.Event(), server.service.store.close
            server.service.store.close = lambda: gate.wait(20) and close()
            await asyncio.wait_for(server.service.close(), 5)
            gate.set()
            del server.service.store.close

    asyncio.run(asyncio.wait_for(run(), 20))


def test_what_no_viewer_is_told(live, tmp_path):
    async def run():
        async with live(recordings=tmp_path / "rec") as server:
            gate = server.service.gate
            text = gate.redact(f"recorded at {tmp_path / 'rec'}; {tmp_path / 'avatars' / 'ada'}")
            assert str(tmp_path) not in text and text.startswith("recorded at ")
            error = AgentError(
                "cannot reach the agent at http://10.0.0.3:8000/v1: Cannot connect to host 10.0.0.3:8000 ssl:default"
            )
            _, code, message = gate.describe(error)
            assert code == "agent_failed" and "10.0.0.3" not in message and "the voice agent" in message

    asyncio.run(run())


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_ends_the_server():
    async def run():
        app, ended, started = web.Application(), [], asyncio.Event()

        async def end(_: web.Application) -> None:
            ended.append(1)

        app.on_shutdown.append(end)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serving = asyncio.create_task(serve(app, "127.0.0.1", port, started))
        await asyncio.wait_for(started.wait(), 5)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 5)
        assert ended

    asyncio.run(run())
