"""The routes over HTTP: what they do, whom they refuse, and what they survive."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from yarl import URL

from musetalk.live.security import SecurityPolicy
from musetalk.live.service import ServerLimits

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def code_of(answer) -> str:
    return (await answer.json())["error"]["code"]


def test_a_session_from_birth_to_death(live):
    async def run():
        async with live() as server:
            async with server.http.post(server.url("/sessions"), json={"avatar": "ada"}) as answer:
                assert answer.status == 201
                path = answer.headers["Location"]
            session = server.service.sessions.all[path.rsplit("/")[-1]]
            async with server.http.post(server.url(f"{path}/audio?rate=24000&end=1"), data=b"\1\2" * 480) as answer:
                assert await answer.json() == {"segment": 0, "ahead_s": 0.0}
            assert session.pushed == [b"\1\2" * 480] and session.ended == 1
            async with server.http.post(server.url(f"{path}/clear")) as answer:
                assert await answer.json() == {"type": "cleared", "segment": 0, "played_ms": 120}
            async with server.http.get(server.url(path)) as answer:
                assert (await answer.json())["fps"] == 25
            async with server.http.delete(server.url(path)) as answer:
                assert answer.status == 204
            assert session.closed
            async with server.http.get(server.url(path)) as answer:
                assert answer.status == 404 and await code_of(answer) == "unknown_session"

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_full_server_says_so(live):
    async def run():
        async with live() as server:
            for _ in range(3):
                await server.session()
            async with server.http.post(server.url("/sessions"), json={"avatar": "ada"}) as answer:
                assert answer.status == 503 and answer.headers["Retry-After"]
                assert await code_of(answer) == "session_limit_reached"

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "origin_not_allowed"),
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, "host_not_allowed"),
    ],
)
@pytest.mark.parametrize("path", ["/avatars", "/sessions/abc/socket", "/metrics"])
def test_other_sites_are_refused(live, headers, code, path):
    async def run():
        async with live() as server:
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
            sent = {**headers, **(upgrade if path.endswith("socket") else {})}
            async with server.http.get(server.url(path), headers=sent) as answer:
                assert answer.status == 403 and await code_of(answer) == code
                assert "Access-Control-Allow-Origin" not in answer.headers

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_link_may_lead_to_the_page(live):
    async def run():
        async with live() as server:
            link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
            async with server.http.get(server.url("/"), headers=link) as answer:
                assert answer.status == 200 and "text/html" in answer.headers["Content-Type"]
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_listed_origin_is_answered_by_name(live):
    async def run():
        policy = SecurityPolicy(origins=frozenset({"https://app.example"}))
        async with live(policy=policy) as server:
            origin = {"Origin": "https://app.example"}
            async with server.http.get(server.url("/avatars"), headers=origin) as answer:
                assert answer.status == 200
                assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
                assert "Access-Control-Allow-Credentials" not in answer.headers
            async with server.http.options(server.url("/sessions"), headers=origin) as answer:
                assert answer.status == 204
                assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"

    asyncio.run(asyncio.wait_for(run(), 20))


def test_tokens(live):
    async def run():
        async with live(policy=SecurityPolicy(token=TOKEN)) as server:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                async with server.http.get(server.url("/avatars"), headers=headers) as answer:
                    assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
                    assert TOKEN not in await answer.text()
            async with server.http.get(server.url(f"/avatars?token={TOKEN}")) as answer:
                assert answer.status == 401
            async with server.http.get(server.url("/avatars"), headers=BEARER) as answer:
                assert answer.status == 200
            for path in ("/health", "/ready", "/config", "/"):
                async with server.http.get(server.url(path)) as answer:
                    assert answer.status == 200, path

    asyncio.run(asyncio.wait_for(run(), 20))


def test_guessing_tokens_is_slowed_down(live):
    async def run():
        async with live(policy=SecurityPolicy(token=TOKEN)) as server:
            seen = []
            for _ in range(14):
                async with server.http.get(server.url("/avatars"), headers={"Authorization": "Bearer x"}) as answer:
                    seen.append(answer.status)
            assert seen[0] == 401 and seen[-1] == 429
            # Nothing is compared any more, so that a right guess looks like a wrong one.
            async with server.http.get(server.url("/avatars"), headers=BEARER) as answer:
                assert answer.status == 429

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_a_proxy_needs_a_token(live, header):
    async def run():
        headers = {header: "for=203.0.113.9"}
        async with live() as server, server.http.get(server.url("/avatars"), headers=headers) as answer:
            assert answer.status == 403 and await code_of(answer) == "token_required"

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_ticket_opens_one_session(live):
    async def run():
        async with live(policy=SecurityPolicy(token=TOKEN)) as server:
            sessions = []
            for _ in range(2):
                async with server.http.post(server.url("/sessions"), json={"avatar": "ada"}, headers=BEARER) as answer:
                    sessions.append(await answer.json())
            mine, other = sessions
            ticket = {"Authorization": f"Bearer {mine['ticket']}"}
            for path, status in (
                (f"/sessions/{mine['id']}", 200),
                (f"/sessions/{other['id']}", 401),
                ("/avatars", 401),
                ("/metrics", 401),
            ):
                async with server.http.get(server.url(path), headers=ticket) as answer:
                    assert answer.status == status, path
            path = f"/sessions/{mine['id']}"
            for method, route in (
                ("POST", "/ticket"),
                ("POST", "/recording"),
                ("DELETE", "/recording"),
                ("DELETE", ""),
            ):
                async with server.http.request(method, server.url(path + route), headers=ticket) as answer:
                    assert answer.status == 401, route
            for seconds, status in ((3600, 200), (0, 400), (10**6, 400)):
                body = {"seconds": seconds}
                async with server.http.post(server.url(f"{path}/ticket"), json=body, headers=BEARER) as answer:
                    assert answer.status == status

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    "path",
    [
        "/page/..%2f..%2fsecurity.py",
        "/page/%2e%2e/security.py",
        "/page/security.py",
        "/recordings/..%2f..%2fetc%2fpasswd",
        "/recordings/%2fetc%2fpasswd",
        "/jobs/..",
        "/sessions/..%2f..",
        "/sessions/%00",
        "/avatars/../../etc",
    ],
)
def test_path_tricks(live, tmp_path, path):
    async def run():
        (tmp_path / "recordings").mkdir()
        async with live(recordings=tmp_path / "recordings") as server:
            url = URL(server.url("/").rstrip("/") + path, encoded=True)
            async with server.http.get(url) as answer:
                assert answer.status in (404, 405)
                text = await answer.text()
                assert "root:" not in text and str(tmp_path) not in text and "import" not in text

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize("name", ["", "..", "../x", "A", "a/b", "a%00", "con", "x" * 65])
def test_avatar_names(live, tmp_path, name):
    async def run():
        async with live() as server:
            params = {"name": name}
            async with server.http.post(server.url("/avatars"), params=params, data=b"\x89PNG\r\n\x1a\n") as answer:
                assert answer.status == 400, await answer.text()
                assert str(tmp_path) not in await answer.text()
            async with server.http.post(server.url("/sessions"), json={"avatar": 7}) as answer:
                assert answer.status == 400
            assert not list((tmp_path / "avatars" / ".uploads").iterdir())

    asyncio.run(asyncio.wait_for(run(), 20))


def test_uploads_are_bounded_and_checked(live, tmp_path):
    async def pieces():
        for _ in range(40):
            yield b"x" * 1000

    async def run():
        async with live(limits=ServerLimits(upload_bytes=20_000)) as server:
            url = server.url("/avatars?name=grace")
            for data in (b"x" * 20_001, pieces()):
                async with server.http.post(url, data=data) as answer:
                    assert answer.status == 413 and await code_of(answer) == "too_large"
            async with server.http.post(url, data=b"#!/bin/sh\n") as answer:
                assert answer.status == 400 and "PNG" in (await answer.json())["error"]["message"]
            assert not list((tmp_path / "avatars" / ".uploads").iterdir())
            async with server.http.post(url, data=b"\x89PNG\r\n\x1a\n damaged") as answer:
                assert answer.status == 202
                job = answer.headers["Location"]
            for _ in range(50):
                async with server.http.get(server.url(job)) as answer:
                    facts = await answer.json()
                if facts["state"] == "failed":
                    break
                await asyncio.sleep(0.05)
            assert facts["state"] == "failed" and str(tmp_path) not in facts["error"]

    asyncio.run(asyncio.wait_for(run(), 20))


def test_sound_bodies_are_bounded_and_checked(live):
    async def run():
        async with live(limits=ServerLimits(sound_bytes=1000)) as server:
            path = f"/sessions/{await server.session()}/audio"
            for query, data, status in (
                ("rate=24000", b"x" * 1002, 413),
                ("rate=24000", b"x" * 3, 400),
                ("", b"xx", 400),
                ("rate=-1", b"xx", 400),
                ("rate=24001", b"xx", 400),
                ("rate=99999999999", b"xx", 400),
                ("rate=24000", b"xx", 200),
            ):
                async with server.http.post(server.url(f"{path}?{query}"), data=data) as answer:
                    assert answer.status == status, (query, await answer.text())

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'{"avatar": NaN}',
        b"[" * 60_000,
        b'{"avatar": {"a": 1}}',
        b"\xff\xfe",
        b'{"avatar": "' + b"a" * 70_000 + b'"}',
        b'{"avatar": "../../x"}',
    ],
    ids=range(9),
)
def test_malformed_json(live, body):
    async def run():
        async with live() as server:
            headers = {"Content-Type": "application/json"}
            async with server.http.post(server.url("/sessions"), data=body, headers=headers) as answer:
                assert answer.status in (400, 404, 413)
            async with server.http.post(server.url("/sessions"), data=b'{"avatar": "ada"}') as answer:
                assert answer.status == 415
            async with server.http.get(server.url("/health")) as answer:
                assert answer.status == 200

    asyncio.run(asyncio.wait_for(run(), 20))


def test_too_many_requests(live):
    async def run():
        async with live() as server:
            seen = []
            for _ in range(160):
                async with server.http.get(server.url("/health")) as answer:
                    seen.append(answer.status)
            assert seen[0] == 200 and 429 in seen

    asyncio.run(asyncio.wait_for(run(), 20))


def test_recording_needs_consent(live, tmp_path):
    async def run():
        async with live(recordings=tmp_path / "recordings") as server:
            path = f"/sessions/{await server.session()}/recording"
            async with server.http.post(server.url(path), json={}) as answer:
                assert answer.status == 403 and await code_of(answer) == "consent_required"
            async with server.http.post(server.url(path), json={"consent": True}) as answer:
                assert answer.status == 201
                name = (await answer.json())["recording"]
            async with server.http.delete(server.url(path)) as answer:
                assert (await answer.json())["recording"] == name
            async with server.http.get(server.url(f"/recordings/{name}")) as answer:
                assert await answer.read() == b"a film"
        async with live() as server:
            path = f"/sessions/{await server.session()}/recording"
            async with server.http.post(server.url(path), json={"consent": True}) as answer:
                assert answer.status == 409

    asyncio.run(asyncio.wait_for(run(), 20))


def test_text_without_an_engine_for_it(live):
    async def run():
        async with live() as server:
            path = f"/sessions/{await server.session()}/text"
            for to, code in (("speech", "no_speech"), ("agent", "no_agent"), ("me", "malformed")):
                async with server.http.post(server.url(path), json={"text": "hello", "to": to}) as answer:
                    assert await code_of(answer) == code

    asyncio.run(asyncio.wait_for(run(), 20))


def test_metrics_and_page(live):
    async def run():
        async with live() as server:
            await server.session()
            async with server.http.get(server.url("/metrics")) as answer:
                text = await answer.text()
                assert "musetalk_live_sessions 1.0" in text and "musetalk_live_worker_frames_total 0.0" in text
            for name in ("index.html", "live.css", "live.js", "client.js", "sound.js"):
                async with server.http.get(server.url(f"/page/{name}")) as answer:
                    assert answer.status == 200
                    assert "http://" not in (await answer.text()).replace("http://www.w3.org/", "")

    asyncio.run(asyncio.wait_for(run(), 20))


def test_on_another_application_only_its_own_routes_are_guarded(live):
    async def run():
        app = web.Application()

        async def other(_: web.Request) -> web.Response:
            return web.Response(text="another pack's")

        app.router.add_get("/other", other)
        async with live(app) as server:
            async with server.http.get(server.url("/other"), headers={"Origin": "http://evil.example"}) as answer:
                assert answer.status == 200 and "Content-Security-Policy" not in answer.headers
            async with server.http.get(server.url("/musetalk/live"), allow_redirects=False) as answer:
                assert answer.headers["Location"] == "/musetalk/live/"
            async with server.http.get(server.url("/musetalk/live/health")) as answer:
                assert await answer.json() == {"status": "ok"}

    asyncio.run(asyncio.wait_for(run(), 20))
