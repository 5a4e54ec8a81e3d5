"""Sound that waits for its session: in order, and bounded however it comes."""

from __future__ import annotations

import asyncio

import pytest

from musetalk.live.errors import TooMuchAudioError
from musetalk.live.sound_up import WAITING_BYTES, WAITING_ENTRIES, WAITING_SECONDS, SoundUp


def test_order_of_sound_rates_and_ends():
    async def run():
        waiting = SoundUp()
        for start in range(0, 48000, 2):
            waiting.put(bytes((start % 251, start % 7)), 24000)
        waiting.end()
        waiting.end()
        waiting.put(b"\1\2", 16000)
        pieces = [await waiting.get() for _ in range(4)]
        assert [(len(pcm), rate) for pcm, rate in pieces] == [(24000, 24000), (24000, 24000), (0, 0), (2, 16000)]
        sent = b"".join(bytes((start % 251, start % 7)) for start in range(0, 48000, 2))
        assert pieces[0][0] + pieces[1][0] == sent
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiting.get(), 0.01)

    asyncio.run(run())


@pytest.mark.parametrize("rate", [8000, 24000, 96000])
def test_too_much_is_refused_and_what_waits_stays(rate):
    async def run():
        waiting, second = SoundUp(), bytes(2 * rate)
        taken = 0
        with pytest.raises(TooMuchAudioError, match="send it as it is spoken"):
            while True:
                waiting.put(second, rate)
                taken += len(second)
        most = min(WAITING_BYTES, 2 * rate * WAITING_SECONDS)
        assert most - len(second) <= taken <= most
        came = 0
        while came < taken:
            came += len((await waiting.get())[0])
        waiting.put(second, rate)
        waiting.clear()
        waiting.put(second, rate)

    asyncio.run(run())


def test_utterances_are_counted():
    waiting = SoundUp()
    with pytest.raises(TooMuchAudioError, match="utterances"):
        for _ in range(WAITING_ENTRIES):
            waiting.put(b"\0\0", 24000)
            waiting.end()
