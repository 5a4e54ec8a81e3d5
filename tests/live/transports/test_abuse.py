"""Strangers at every door, and guests who send nothing but nonsense: refused, and the others notice nothing."""

from __future__ import annotations

import asyncio
import struct

import pytest
from google_crc32c import value as crc32c
from yarl import URL

from musetalk.live.security import SecurityPolicy
from musetalk.live.server import live_routes
from musetalk.live.service import ServerLimits

from .test_websocket import MALFORMED
from .watcher import Watcher, until

TOKEN = "a-token-of-some-length"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
PUBLIC = {"/", "/page/{name}", "/config", "/health", "/ready"}
NAMES = {"session": "a", "viewer": "b", "avatar": "c", "job": "d", "recording": "e", "name": "live.js"}


def unlimited(server) -> None:
    """What stands behind the limit on requests is to be reached."""
    server.service.gate._requests.allows = server.service.gate._failures.allows = lambda client: True


def doors(server) -> list[tuple[str, str, str, dict[str, str]]]:
    """(method, path as it is registered, path, headers) of every route."""
    routes = live_routes(server.service, "")
    return [
        (route.method, route.path, route.path.format(**NAMES), UPGRADE if route.path.endswith("socket") else {})
        for route in routes
    ]


def test_no_door_opens_to_other_sites(live):
    async def run():
        async with live() as server:
            unlimited(server)
            refused = 0
            for method, _, path, headers in doors(server):
                for stranger in (
                    {"Origin": "http://evil.example"},
                    {"Origin": "null"},
                    {"Sec-Fetch-Site": "cross-site"},
                    {"Host": "evil.example"},
                    {"X-Forwarded-For": "203.0.113.9"},
                ):
                    url, sent = server.url(path), {**headers, **stranger}
                    async with server.http.request(method, url, headers=sent) as answer:
                        assert answer.status == 403, (method, path, stranger)
                        assert "Access-Control-Allow-Origin" not in answer.headers
                        refused += 1
            assert refused >= 150 and server.service.gate.refused == refused

    asyncio.run(asyncio.wait_for(run(), 30))


def test_no_private_door_opens_without_the_token(live):
    async def run():
        async with live(policy=SecurityPolicy(token=TOKEN)) as server:
            unlimited(server)
            private = 0
            for method, route, path, headers in doors(server):
                if route in PUBLIC or method == "OPTIONS":
                    continue
                private += 1
                for key in (None, f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}", "Bearer", f"Basic {TOKEN}", TOKEN):
                    sent = headers if key is None else {**headers, "Authorization": key}
                    async with server.http.request(method, server.url(path), headers=sent) as answer:
                        assert answer.status == 401, (method, path, key)
                for ticket in (server.service.gate.tickets.issue("session:another", 60), f"{TOKEN}x", ""):
                    sent = {**headers, "Sec-WebSocket-Protocol": f"musetalk.live, musetalk.ticket.{ticket}"}
                    async with server.http.request(method, server.url(path), headers=sent) as answer:
                        assert answer.status == 401, (method, path, ticket)
            assert private >= 20

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("session", ["..", "..%2f..", "%2e%2e%2f%2e%2e%2fetc", "a%00", "a%2fb", "x" * 200, "%ff"])
def test_path_tricks_at_the_socket_and_the_offer(live, session):
    async def run():
        async with live() as server:
            for method, part, headers in (
                ("GET", "socket", UPGRADE),
                ("POST", "whep", {"Content-Type": "application/sdp"}),
                ("DELETE", "whep/..%2f..", {}),
                ("POST", "audio?rate=24000", {}),
            ):
                url = URL(server.url("/").rstrip("/") + f"/sessions/{session}/{part}", encoded=True)
                async with server.http.request(method, url, headers=headers) as answer:
                    assert answer.status == 404, await answer.text()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_thousand_malformed_requests(live):
    bodies = [message if isinstance(message, bytes) else message.encode() for message in MALFORMED]

    async def run():
        async with live(limits=ServerLimits(upload_bytes=4000, sound_bytes=4000)) as server:
            unlimited(server)
            of_session = f"/sessions/{await server.session()}"
            json = "application/json"
            targets = [
                ("/sessions", json),
                (f"{of_session}/text", json),
                (f"{of_session}/avatar", json),
                (f"{of_session}/whep", "application/sdp"),
                (f"{of_session}/audio?rate=fast", "application/octet-stream"),
                ("/avatars?name=..", "application/octet-stream"),
            ]
            for number in range(1000):
                path, kind = targets[number % len(targets)]
                body = bodies[number // len(targets) % len(bodies)]
                async with server.http.post(server.url(path), data=body, headers={"Content-Type": kind}) as answer:
                    assert answer.status in (400, 404, 413), (path, body[:20], await answer.text())
            # Not even HTTP.
            for line in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A: " + b"x" * 20_000 + b"\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.server.port)
                writer.write(line)
                assert (await asyncio.wait_for(reader.read(), 5)).split(b"\r\n")[0].split()[1] == b"400"
                writer.close()
            async with server.http.get(server.url("/health")) as answer:
                assert answer.status == 200
            assert len(server.service.sessions.ids()) == 1

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_thousand_malformed_messages_on_data_channels(live):
    async def run():
        async with live() as server:
            unlimited(server)
            session, other = await server.session(), Watcher()
            await other.join(server, session)
            await until(lambda: other.frames and other.events, 20)
            sent = 0
            while sent < 1000:
                guest = Watcher()
                await guest.join(server, session)
                await until(lambda guest=guest: guest.events, 20)
                for number in range(40):
                    guest.channel.send(MALFORMED[(sent + number) % len(MALFORMED)])
                sent += 40
                await until(lambda: server.service.viewers == 1, 20)
                errors = [event for event in guest.events if event["type"] == "error"]
                assert errors and all(event["code"] in ("malformed", "bad_input", "not_found") for event in errors)
                await guest.leave()
            seen = len(other.frames)
            other.channel.send('{"type": "ping"}')
            await until(lambda: other.events[-1] == {"type": "pong"} and len(other.frames) > seen, 20)
            await other.leave()

    asyncio.run(asyncio.wait_for(run(), 120))


def test_malformed_chunks_of_a_data_channel(live):
    """Older releases of aiortc read a chunk of no length for ever, and the whole server with it."""

    async def run():
        async with live() as server:
            session, watcher = await server.session(), Watcher()
            await watcher.join(server, session)
            await until(lambda: watcher.events, 20)
            sctp = watcher.connection.sctp
            header = struct.pack("!HHL", sctp._local_port, sctp._remote_port, sctp._remote_verification_tag)

            async def send(chunk: bytes) -> None:
                checksum = struct.pack("<L", crc32c(header + bytes(4) + chunk))
                await sctp.transport._send_data(header + checksum + chunk)

            for chunk in (b"\0\3\0\0", b"\0\3\xff\xff", b"\0", b""):
                await send(chunk)
            watcher.channel.send('{"type": "ping"}')
            await until(lambda: {"type": "pong"} in watcher.events, 20)
            # Data too far ahead of all other to be acknowledged, which is its sender's end alone.
            await send(struct.pack("!BBHLHHLx", 0, 3, 17, (sctp._local_tsn + 100_000) % 2**32, 0, 0, 51))
            await until(lambda: server.service.viewers == 0, 20)
            await watcher.leave()

    asyncio.run(asyncio.wait_for(run(), 60))
