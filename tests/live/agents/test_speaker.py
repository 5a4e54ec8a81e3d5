"""How much of an answer was heard, whatever happens to it on its way."""

from __future__ import annotations

import asyncio

import pytest

from musetalk.errors import InputError
from musetalk.live.agents.base import AgentError
from musetalk.live.agents.speaker import Cut, Speaker
from musetalk.live.errors import TooMuchAudioError

from .sinks import PacedSink, until

RATE = 16000


def sound(ms: int) -> bytes:
    return bytes(range(1, 33)) * ms


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("played_ms", "cuts"),
    [
        (0, [Cut("a", 0), Cut("b", 0), Cut("c", 0)]),
        (40, [Cut("a", 40), Cut("b", 0), Cut("c", 0)]),
        (100, [Cut("b", 0), Cut("c", 0)]),
        (130, [Cut("b", 30), Cut("c", 0)]),
        (200, [Cut("c", 0)]),
        (230, [Cut("c", 30)]),
        (300, [Cut("c", 100)]),
    ],
)
def test_what_was_cut_is_told_for_each_utterance(played_ms: int, cuts: list[Cut]):
    """Of three utterances the last is not complete yet."""

    async def main() -> None:
        sink = PacedSink()
        speaker = Speaker(sink, RATE, pytest.fail)
        for key in "abc":
            speaker.say(key, sound(60))
            speaker.say(key, sound(40))
        await settle()
        sink.play(played_ms)
        assert await speaker.stop() == cuts
        speaker.say("d", sound(10))
        await settle()
        assert await speaker.stop() == [Cut("d", 0)]
        assert await speaker.stop() == []

    asyncio.run(main())


def test_what_the_avatar_had_not_taken_counts_as_not_heard():
    async def main() -> None:
        sink = PacedSink(ahead_s=0.1)
        speaker = Speaker(sink, RATE, pytest.fail)
        for key in "abc":
            speaker.say(key, sound(80))
        await settle()
        sink.play(20)
        assert [len(s.pcm) for s in sink.segments] == [80 * 32]
        assert await speaker.stop() == [Cut("a", 20), Cut("b", 0), Cut("c", 0)]
        speaker.say("d", sound(50))
        await settle()
        assert bytes(sink.segments[-1].pcm) == sound(50)
        await speaker.close()

    asyncio.run(main())


def test_too_much_speech_ahead_is_refused_and_the_rest_is_kept():
    async def main() -> None:
        speaker = Speaker(PacedSink(ahead_s=0.5), RATE, pytest.fail, limit_s=1.0)
        speaker.say("a", sound(900))
        with pytest.raises(AgentError, match="more than 1 s"):
            speaker.say("a", sound(200))
        speaker.say("a", sound(100))
        assert await speaker.stop() == [Cut("a", 0)]

    asyncio.run(main())


def test_an_utterance_the_avatar_refuses_is_dropped_and_the_next_one_is_said():
    class Refusing(PacedSink):
        async def push_pcm(self, pcm: bytes, rate: int) -> int:
            if rate == 12345:
                raise InputError("sound at 12345 Hz cannot be streamed")
            if len(pcm) > 3200:
                raise TooMuchAudioError("too much")
            return await super().push_pcm(pcm, rate)

    async def main() -> None:
        sink, errors = Refusing(), []
        speaker = Speaker(sink, 12345, errors.append)
        speaker.say("a", sound(50))
        speaker.say("a", sound(50))
        speaker.rate = RATE
        speaker.say("b", sound(200))
        speaker.say("c", sound(50))
        speaker.finish("c")
        await until(lambda: sink.segments and sink.segments[0].ended)
        assert [type(error) for error in errors] == [InputError, TooMuchAudioError]
        assert [bytes(s.pcm) for s in sink.segments] == [sound(50)]
        await speaker.close()

    asyncio.run(main())


def test_a_storm_of_interruptions_leaves_no_task_and_no_stale_sound():
    async def main() -> None:
        sink = PacedSink(ahead_s=0.1)
        speaker = Speaker(sink, RATE, pytest.fail)
        for number in range(200):
            speaker.say(number, sound(70))
            speaker.say(number, sound(70))
            if number % 3:
                await asyncio.sleep(0)
            await speaker.stop()
        speaker.say("last", sound(30))
        await settle()
        assert bytes(sink.segments[-1].pcm) == sound(30)
        await speaker.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
