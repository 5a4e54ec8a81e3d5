"""The WebSocket of a session: its framing, its commands, and clients that misbehave."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import cv2
import numpy as np
import pytest

from musetalk.live.security import SecurityPolicy
from musetalk.live.timeline import AudioItem, VideoItem
from musetalk.live.websocket import HEADER, JPEG, RAW, pack_picture, pack_sound, unpack

TOKEN = "a-token-of-some-length"


async def collect(socket, seconds: float) -> tuple[list[dict], list]:
    """The events and media of so many seconds."""
    events, media = [], []
    deadline = asyncio.get_running_loop().time() + seconds
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            message = await socket.receive(timeout=left)
        except asyncio.TimeoutError:
            break
        if message.type is aiohttp.WSMsgType.TEXT:
            events.append(json.loads(message.data))
        elif message.type is aiohttp.WSMsgType.BINARY:
            media.append(unpack(message.data))
        else:
            break
    return events, media


def test_framing():
    image = np.random.default_rng(0).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    raw = unpack(pack_picture(VideoItem(2**40, image, True), RAW))
    assert raw.pts_frames == 2**40 and raw.speaking and (raw.image == image).all()
    flat = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    pts, file, speaking = unpack(pack_picture(VideoItem(7, flat, False), JPEG, 95))
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert (pts, speaking) == (7, False) and np.abs(decoded.astype(int) - flat).max() < 8
    sound = AudioItem(441, b"\1\2" * 441, 22050)
    assert unpack(pack_sound(sound)) == sound
    assert HEADER.size == 16


def test_sound_up_pictures_and_sound_down(live):
    async def run():
        async with live() as server:
            session = await server.session()
            async with server.http.ws_connect(server.url(f"/sessions/{session}/socket")) as socket:
                await socket.send_json({"type": "start", "rate": 24000, "video": "raw"})
                voice = (np.arange(24000) % 3000).astype("<i2").tobytes()
                for start in range(0, len(voice), 4800):
                    await socket.send_bytes(voice[start : start + 4800])
                await socket.send_json({"type": "end"})
                events, media = [], []
                while not sum(isinstance(item, VideoItem) for item in media) > 30:
                    more = await collect(socket, 0.2)
                    events, media = events + more[0], media + more[1]
            sounds = [item for item in media if isinstance(item, AudioItem)]
            pictures = [item for item in media if isinstance(item, VideoItem)]
            heard = b"".join(item.pcm for item in sounds)
            assert voice in heard
            # A busy machine may lose pictures, never their order.
            assert (np.diff([item.pts_frames for item in pictures]) >= 1).all()
            assert all(item.image[0, 0, 0] == item.pts_frames % 200 + 20 for item in pictures)
            assert events[0] == {"type": "ready", "session": session, "fps": 25.0}
            assert {"type": "ended"} in events
            assert [event["value"] for event in events if event["type"] == "speaking"][-2:] == [True, False]
            assert server.service.sessions.get(session).ended == 1
            await asyncio.sleep(0.1)
            assert server.service.viewers == 0 and server.service.sessions.get(session).viewers == 0

    asyncio.run(asyncio.wait_for(run(), 20))


def test_clear_is_not_stuck_behind_sound(live):
    async def run():
        async with live() as server:
            session = server.service.sessions.get(await server.session())
            gate = asyncio.Event()

            async def never_room(pcm, rate):
                await gate.wait()
                return -1

            session.push_pcm = never_room
            server.service.send_text = lambda *_, **__: gate.wait()
            async with server.http.ws_connect(server.url(f"/sessions/{session.id}/socket")) as socket:
                await socket.send_json({"type": "start", "rate": 48000, "video": "none", "audio": False})
                # Far more than may wait, and a command that does not come back.
                for _ in range(15):
                    await socket.send_bytes(b"\0" * 960_000)
                await socket.send_json({"type": "say", "text": "a long story"})
                await socket.send_json({"type": "clear"})
                events = []
                while not events or events[-1]["type"] != "cleared":
                    events.append(await socket.receive_json(timeout=5))
                assert events[-1] == {"type": "cleared", "segment": 0, "played_ms": 120}
                assert sum(event.get("code") == "too_much_audio" for event in events) >= 2
                gate.set()

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_upgrades_of_other_sites_are_refused(live, headers):
    async def run():
        async with live() as server:
            session = await server.session()
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await server.http.ws_connect(server.url(f"/sessions/{session}/socket"), headers=headers)
            assert caught.value.status == 403

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_browser_brings_a_ticket_as_a_protocol(live):
    async def run():
        async with live(policy=SecurityPolicy(token=TOKEN)) as server:
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            async with server.http.post(server.url("/sessions"), json={"avatar": "ada"}, headers=bearer) as answer:
                facts = await answer.json()
            url = server.url(f"/sessions/{facts['id']}/socket")
            for protocols in ((), ("musetalk.live",), ("musetalk.live", "musetalk.ticket.forged.00")):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    await server.http.ws_connect(url, protocols=protocols)
                assert caught.value.status == 401
            protocols = ("musetalk.live", f"musetalk.ticket.{facts['ticket']}")
            async with server.http.ws_connect(url, protocols=protocols) as socket:
                assert socket.protocol == "musetalk.live"
                await socket.send_json({"type": "start"})
                assert (await socket.receive_json())["type"] == "ready"

    asyncio.run(asyncio.wait_for(run(), 20))


MALFORMED = [
    b"\0",
    b"",
    "",
    "{",
    "[]",
    '"start"',
    '{"type": 1}',
    '{"type": "start", "rate": "fast"}',
    '{"type": "start", "rate": 1}',
    '{"type": "start", "video": "avi"}',
    '{"type": "start", "quality": 1e400}',
    '{"type": "unheard of"}',
    '{"type": "say"}',
    '{"type": "avatar", "id": "../../etc"}',
    "[" * 9000,
    "x" * 20_000,
]


def test_a_thousand_malformed_messages(live):
    async def run():
        async with live() as server:
            session = await server.session()
            url = server.url(f"/sessions/{session}/socket")
            sent = connections = 0
            while sent < 1000:
                if connections % 50 == 49:
                    await asyncio.sleep(1)  # within the rate of requests that a client may have
                connections += 1
                async with server.http.ws_connect(url) as socket:
                    await socket.send_json({"type": "start", "video": "none", "audio": False})
                    for number in range(40):
                        message = MALFORMED[(sent + number) % len(MALFORMED)]
                        try:
                            await (socket.send_bytes if isinstance(message, bytes) else socket.send_str)(message)
                        except ConnectionError:
                            break
                        sent += 1
                    events, _ = await collect(socket, 5)
                    assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
                    errors = [event for event in events if event["type"] == "error"]
                    assert errors and all(event["code"] in ("malformed", "bad_input", "not_found") for event in errors)
            await asyncio.sleep(0.1)
            assert server.service.viewers == 0
            async with server.http.ws_connect(url) as socket:
                await socket.send_json({"type": "start"})
                _, media = await collect(socket, 0.3)
                assert media

    asyncio.run(asyncio.wait_for(run(), 20))


def test_oversize_message_and_silence_at_the_start(live, monkeypatch):
    async def run():
        monkeypatch.setattr("musetalk.live.websocket._START_SECONDS", 0.2)
        async with live() as server:
            url = server.url(f"/sessions/{await server.session()}/socket")
            async with server.http.ws_connect(url) as socket:
                await socket.receive(timeout=2)
                assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
            async with server.http.ws_connect(url) as socket:
                await socket.send_json({"type": "start", "video": "none", "audio": False})
                assert (await socket.receive_json())["type"] == "ready"
                await socket.send_bytes(b"\0" * ((1 << 20) + 2))
                await collect(socket, 1)
                assert socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_reader_that_stops_loses_pictures_and_no_sound(live):
    """Its receive window fills up, then the server's send buffer, then its queue of pictures."""

    async def run():
        async with live() as server:
            session = server.service.session(await server.session())
            session.size = (480, 640)
            url = server.url(f"/sessions/{session.id}/socket")
            async with server.http.ws_connect(url) as slow, server.http.ws_connect(url) as quick:
                await slow.send_json({"type": "start", "video": "raw"})
                assert (await slow.receive_json())["type"] == "ready"
                slow._writer.transport.pause_reading()
                (place,) = session._viewers
                await quick.send_json({"type": "start", "video": "raw"})
                loop = asyncio.get_running_loop()
                deadline = loop.time() + 8
                seen = 0
                while place.dropped < 10:
                    assert loop.time() < deadline, "the slow one lost nothing"
                    message = await quick.receive(timeout=5)
                    seen += message.type is aiohttp.WSMsgType.BINARY and isinstance(unpack(message.data), VideoItem)
                # Of what it has not read, nothing was held back for the other.
                assert seen > place.dropped
                slow._writer.transport.resume_reading()
                _, media = await collect(slow, 1)
            stamps = [item.pts_samples for item in media if isinstance(item, AudioItem)]
            assert len(stamps) > 50 and set(np.diff(stamps)) == {960}
            shown = [item.pts_frames for item in media if isinstance(item, VideoItem)]
            assert shown == sorted(shown) and max(np.diff(shown)) > 5

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_session_that_ends_ends_its_sockets(live):
    async def run():
        async with live() as server:
            session = await server.session()
            async with server.http.ws_connect(server.url(f"/sessions/{session}/socket")) as socket:
                await socket.send_json({"type": "start"})
                await asyncio.sleep(0.2)
                await server.service.close_session(session)
                await collect(socket, 2)
                assert socket.closed

    asyncio.run(asyncio.wait_for(run(), 20))
