"""The routes over HTTP: what they do, whom they refuse, and what they survive."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

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


@pytest.mark.parametrize("prefix", ["", "/musetalk/live"])
def test_unknown_paths_and_wrong_methods(live, prefix):
    async def run():
        policy = SecurityPolicy(origins=frozenset({"https://app.example"}))
        async with live(web.Application() if prefix else None, policy=policy) as server:
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                for path in ("/unheard-of", "/sessions/a/b/c", "/page", "/avatars/"):
                    async with server.http.request(method, server.url(prefix + path)) as answer:
                        assert answer.status == 404, (method, path)
            for method, path, allowed in (
                ("GET", "/sessions", {"POST", "OPTIONS"}),
                ("PUT", "/avatars", {"GET", "HEAD", "POST", "OPTIONS"}),
                ("PATCH", "/sessions/a/whep/b", {"DELETE", "OPTIONS"}),
                ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
            ):
                async with server.http.request(method, server.url(prefix + path)) as answer:
                    assert answer.status == 405 and set(answer.headers["Allow"].split(",")) == allowed, path
            for path in ("/sessions", "/sessions/a/whep/b", "/"):
                for origin, status in (("https://app.example", 204), ("http://evil.example", 403)):
                    async with server.http.options(server.url(prefix + path), headers={"Origin": origin}) as answer:
                        assert answer.status == status, path
                        named = answer.headers.get("Access-Control-Allow-Origin")
                        assert named == (origin if status == 204 else None)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_ready_until_it_shuts_down_or_the_networks_fail(live):
    async def run():
        async with live() as server:
            for _ in range(3):
                await server.session()
            for broken in ("worker", "accepting"):
                async with server.http.get(server.url("/ready")) as answer:
                    assert answer.status == 200, "a full server is ready"
                worker = server.service.worker
                if broken == "worker":
                    server.service.worker = SimpleNamespace(healthy=False)
                else:
                    server.service.accepting = False
                async with server.http.get(server.url("/ready")) as answer:
                    assert answer.status == 503 and await answer.json() == {"ready": False}
                server.service.worker, server.service.accepting = worker, True

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
                assert answer.status == 404
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
