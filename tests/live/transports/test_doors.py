"""Who may use the routes: sites, hosts, tokens, tickets and proxies."""

from __future__ import annotations

import asyncio

import pytest

from musetalk.live.security import SecurityPolicy

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def code_of(answer) -> str:
    return (await answer.json())["error"]["code"]


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
