"""Work in the background: one at a time, and none that failed stands in the way of the next."""

from __future__ import annotations

import asyncio

from musetalk.live.agents.one_task import OneTask


def test_a_failure_is_told_and_makes_way(caplog):
    async def run():
        task = OneTask("live-reading")

        async def fail():
            raise RuntimeError("no such voice")

        task.begin(fail())
        assert task.exists
        await asyncio.sleep(0.01)
        assert not task.exists
        done = asyncio.Event()

        async def work():
            done.set()

        task.begin(work())
        await asyncio.wait_for(done.wait(), 5)
        await task.close()

    asyncio.run(run())
    assert "live-reading failed" in caplog.text and "no such voice" in caplog.text


def test_what_makes_way_has_ended_when_it_is_closed():
    async def run():
        ended: list[int] = []
        task = OneTask("live-reading")

        async def wait(number: int):
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(number)

        for number in range(3):
            task.begin(wait(number))
            await asyncio.sleep(0)
        await task.close()
        assert sorted(ended) == [0, 1, 2] and not task.exists

    asyncio.run(run())
