"""Whoever is gone before an avatar is open leaves it to nobody."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from musetalk.errors import InputError
from musetalk.live.manager import SessionManager
from musetalk.live.service import LiveService


@asynccontextmanager
async def serving(fakes):
    store = fakes.FakeStore()
    service = LiveService(SessionManager(fakes.FakeEngine(), store, fakes.FakeFeatures), store)
    try:
        yield service, store
    finally:
        await service.close()
    assert store.in_use == 0


def test_an_avatar_that_opens_after_who_switched_to_it_left_is_given_back(fakes):
    async def run():
        async with serving(fakes) as (service, store):
            session = await service.create_session("a")
            switching = asyncio.create_task(service.switch_avatar(session, "cold"))
            await fakes.settle()
            switching.cancel()
            await asyncio.gather(switching, return_exceptions=True)
            assert switching.cancelled() and len(store.opened) == 1
            store.thawed.set()
            await asyncio.wait_for(fakes.given_back(store, 2), 10)
            assert session.avatar is store.opened[0] and store.in_use == 1

    asyncio.run(run())


def test_an_avatar_that_opens_after_its_session_has_ended_is_given_back(fakes):
    async def run():
        async with serving(fakes) as (service, store):
            session = await service.create_session("a")
            switching = asyncio.create_task(service.switch_avatar(session, "cold"))
            await fakes.settle()
            await service.close_session(session.id)
            store.thawed.set()
            (result,) = await asyncio.gather(switching, return_exceptions=True)
            assert "has ended" in str(result) and store.in_use == 0

    asyncio.run(run())


def test_an_avatar_that_cannot_be_opened_leaves_the_other_on_screen(fakes):
    async def run():
        async with serving(fakes) as (service, store):
            session = await service.create_session("a")
            with pytest.raises(InputError, match="no such avatar"):
                await service.switch_avatar(session, "missing")
            assert session.avatar is store.opened[0] and not session.closed

    asyncio.run(run())
