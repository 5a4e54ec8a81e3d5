"""Viewers over WebRTC come and go, in every way there is: nothing of them stays behind."""

from __future__ import annotations

import asyncio

from ..leftovers import Held
from .watcher import Watcher, until

CYCLES = 200
WARM_UP = 20
# For a machine on which others compute.
PATIENCE_S = 60
# The heaps of all threads settle within a quarter of this.
_MEMORY_PER_CYCLE = 128 << 10


def test_two_hundred_webrtc_viewers_come_and_go(live):
    async def watch(server, number: int, *, pictures: bool) -> None:
        session, watcher = await server.session(), Watcher()
        await watcher.join(server, session)
        await until(lambda: watcher.connection.connectionState == "connected", PATIENCE_S)
        if pictures:
            await until(lambda: watcher.frames and watcher.sounds and watcher.events, PATIENCE_S)
        if number % 3 == 0:  # the server is told
            async with server.http.delete(server.url(watcher.location)) as answer:
                assert answer.status == 204
        elif number % 3 == 1:  # it hangs up
            await watcher.connection.close()
            await until(lambda: server.service.viewers == 0, PATIENCE_S)
        await server.service.close_session(session)
        await watcher.leave()

    async def run():
        async with live() as server:
            server.service.gate._requests.allows = lambda client: True
            for number in range(WARM_UP):
                await watch(server, number, pictures=True)
            held = Held.now()
            for number in range(CYCLES):
                if number == CYCLES // 2:
                    halfway = Held.now()
                await watch(server, number, pictures=number % 4 == 0)
            await until(lambda: asyncio.all_tasks() <= held.tasks, PATIENCE_S)
            assert server.service.viewers == 0 and not server.service._company and not server.service.sessions.ids()
            held.assert_kept(CYCLES, _MEMORY_PER_CYCLE, halfway)

    asyncio.run(asyncio.wait_for(run(), 900))
