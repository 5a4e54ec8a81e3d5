"""How much of an answer was heard, whatever happens to it on its way."""

from __future__ import annotations

import asyncio

import pytest

from musetalk.errors import InputError
from musetalk.live.agents.base import AgentError
from musetalk.live.agents.speaker import Cut, Speaker
from musetalk.live.errors import TooMuchAudioError

from .sinks import PacedSink, settle, until

RATE = 16000


def sound(ms: int) -> bytes:
    return bytes(range(1, 33)) * ms


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
        assert speaker.stop() == cuts
        speaker.say("d", sound(10))
        await settle()
        assert speaker.stop() == [Cut("d", 0)]
        assert speaker.stop() == []

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
        assert speaker.stop() == [Cut("a", 20), Cut("b", 0), Cut("c", 0)]
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
        assert speaker.stop() == [Cut("a", 0)]

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
            speaker.stop()
        speaker.say("last", sound(30))
        await settle()
        assert bytes(sink.segments[-1].pcm) == sound(30)
        await speaker.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_speech_that_somebody_else_cleared_is_dropped_to_its_end_and_told_exactly():
    """The first clear meets a speaker that waits at the sink, the second one that does not."""

    async def main() -> None:
        sink, cut = PacedSink(ahead_s=0.1), []
        speaker = Speaker(sink, RATE, pytest.fail, cut.append)
        speaker.say("a", sound(100))
        speaker.say("a", sound(50))
        await settle()
        sink.play(30)
        sink.clear()
        await settle()
        speaker.say("a", sound(50))
        speaker.finish("a")
        speaker.say("b", sound(60))
        await settle()
        sink.play(20)
        sink.clear()
        speaker.say("b", sound(60))
        await settle()
        speaker.say("b", sound(60))
        speaker.say("c", sound(70))
        speaker.finish("c")
        await settle()
        assert cut == [[Cut("a", 30)], [Cut("b", 20)]]
        assert bytes(sink.segments[-1].pcm) == sound(70) and sink.segments[-1].ended
        await speaker.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_two_speakers_of_one_sink_speak_one_after_the_other():
    async def main() -> None:
        sink = PacedSink()
        one, two = Speaker(sink, RATE, pytest.fail), Speaker(sink, 24000, pytest.fail)
        for _ in range(3):
            one.say("a", sound(40))
            two.say("b", sound(60))
            await settle()
        two.finish("b")
        one.finish("a")
        one.say("c", sound(10))
        await settle()
        assert [bytes(s.pcm) for s in sink.segments] == [sound(120), sound(180), sound(10)]
        assert [s.rate for s in sink.segments] == [RATE, 24000, RATE]
        await one.close()  # in the middle of an utterance: it ends there
        two.say("d", sound(20))
        await settle()
        assert [bytes(s.pcm) for s in sink.segments[2:]] == [sound(10), sound(20)]
        await two.close()

    asyncio.run(main())


def test_silence_is_for_every_speaker_of_the_sink_and_each_is_told_of_its_own():
    async def main() -> None:
        sink, told = PacedSink(ahead_s=0.2), []
        one = Speaker(sink, RATE, pytest.fail, lambda cuts: told.append(("one", cuts)))
        two = Speaker(sink, RATE, pytest.fail, lambda cuts: told.append(("two", cuts)))
        elsewhere = Speaker(PacedSink(), RATE, pytest.fail, pytest.fail)
        one.say("a", sound(150))
        one.finish("a")
        one.say("b", sound(500))
        two.say("c", sound(50))
        elsewhere.say("x", sound(50))
        await settle()
        sink.play(90)
        assert two.stop() == [Cut("c", 0)]
        assert told == [("one", [Cut("a", 90), Cut("b", 0)])]
        assert elsewhere.stop() == [Cut("x", 0)]
        two.say("d", sound(30))
        two.finish("d")
        await settle()
        assert bytes(sink.segments[-1].pcm) == sound(30) and sink.segments[-1].ended
        for speaker in (one, two, elsewhere):
            await speaker.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
