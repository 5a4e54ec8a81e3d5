"""Turns of a conversation: every event our client sends is checked against the openai SDK's types."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from musetalk.errors import InputError
from musetalk.live.agents.endpoint import Endpoint
from musetalk.live.agents.openai_realtime import OpenAIRealtime
from musetalk.live.agents.realtime_events import RealtimeConfig

from .calls import TURNS, Call, call
from .fake_realtime import FakeRealtime, Script, tone
from .sinks import PacedSink, until


def test_a_plain_turn_is_spoken_as_one_segment_bit_for_bit():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[0].ended)

    done = call(talk, instructions="Be brief.", voice="cedar", speed=1.1, transcription_model="whisper-1")
    assert [(bytes(s.pcm), s.rate, s.ended) for s in done.sink.segments] == [(tone(1000), 24000, True)]
    assert [e.kind for e in done.events] == [
        "connected",
        "user_started",
        "user_stopped",
        "avatar_started",
        "avatar_text",
        "avatar_text",
        "avatar_done",
        "closed",
    ]
    assert [(e.text, e.final) for e in done.told("avatar_text")] == [("la la", False), ("la la la", True)]
    assert done.server.events("conversation.item.truncate") == []


@pytest.mark.parametrize("played_ms", [0, 130, 999])
def test_barge_in_tells_the_server_exactly_what_was_heard(played_ms: int):
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[0].ended)
        it.sink.play(played_ms)
        await it.speak(quiet_ms=0)
        await until(lambda: it.told("interrupted"))
        await until(lambda: "conversation.item.truncated" in it.server.sent)

    done = call(talk)
    (truncated,) = done.server.events("conversation.item.truncate")
    assert truncated["audio_end_ms"] == played_ms
    assert done.told("interrupted")[0].heard_ms == played_ms
    assert done.server.events("response.cancel") == []


def test_an_answer_heard_to_its_end_is_not_truncated():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[0].ended)
        it.sink.play(1000)
        await it.speak(quiet_ms=0)
        await until(lambda: len(it.told("user_started")) == 2)

    done = call(talk)
    assert not done.told("interrupted") and not done.server.events("conversation.item.truncate")


def test_barge_in_while_the_answer_still_arrives_silences_what_comes_late():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments)
        it.sink.play(100)
        await it.speak(quiet_ms=0)
        await until(lambda: it.server.sent[-1] in ("conversation.item.truncated", "error"))
        pushed = len(it.sink.segments[0].pcm)
        await asyncio.sleep(0.1)
        assert len(it.sink.segments) == 1 and len(it.sink.segments[0].pcm) == pushed < len(tone(1000))

    done = call(talk, Script(gap_s=0.05, late_delta=True))
    assert done.server.events("conversation.item.truncate")[0]["audio_end_ms"] == 100
    assert not done.told("error")


def test_barge_in_is_not_held_up_by_an_avatar_that_has_enough_ahead():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments)
        await until(lambda: "response.done" in it.server.sent)
        it.sink.play(250)
        await it.speak(quiet_ms=0)
        await until(lambda: it.told("interrupted"), 1.0)

    done = call(talk, Script(answer_ms=20_000), PacedSink(ahead_s=1.0))
    assert done.told("interrupted")[0].heard_ms == 250


def test_an_avatar_that_counts_more_than_was_sent_does_not_truncate_too_far():
    class Generous(PacedSink):
        def clear(self):
            from dataclasses import replace

            return replace(super().clear(), segment=0, played_ms=5000)

    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments)
        await it.speak(quiet_ms=0)
        await until(lambda: "conversation.item.truncated" in it.server.sent)

    done = call(talk, Script(gap_s=0.05), Generous())
    assert done.server.events("conversation.item.truncate")[0]["audio_end_ms"] % 200 == 0
    assert not done.told("error")


def test_the_viewer_may_interrupt_by_hand_and_type():
    async def talk(it: Call) -> None:
        await it.agent.interrupt()  # nothing is being said
        await it.agent.send_text("hello")
        await until(lambda: it.sink.segments)
        await it.agent.interrupt()
        await it.agent.interrupt()
        await it.agent.send_text("again")
        await until(lambda: len(it.sink.segments) > 1)
        await it.agent.send_text("and now?")  # cuts the answer off
        await until(lambda: len(it.sink.segments) > 2 and it.sink.segments[2].ended)

    done = call(talk, Script(gap_s=0.03))
    assert len(done.server.events("response.cancel")) == 2
    assert [e["item"]["content"][0]["text"] for e in done.server.events("conversation.item.create")] == [
        "hello",
        "again",
        "and now?",
    ]
    assert not done.told("error")


def test_a_manual_turn():
    async def talk(it: Call) -> None:
        await it.agent.finish_turn()  # nothing was said: nothing is sent
        await it.speak(quiet_ms=0)
        await it.agent.finish_turn()
        await until(lambda: it.sink.segments and it.sink.segments[0].ended)

    done = call(talk, turn_detection=None)
    assert len(done.server.events("input_audio_buffer.commit")) == len(done.server.events("response.create")) == 1
    assert done.server.events("session.update")[0]["session"]["audio"]["input"]["turn_detection"] is None
    assert not done.told("error")


def test_a_voice_that_may_not_interrupt_does_not():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments)
        await it.speak(quiet_ms=0)
        await until(lambda: it.sink.segments[0].ended)

    done = call(talk, Script(gap_s=0.03), turn_detection={**TURNS, "interrupt_response": False})
    assert bytes(done.sink.segments[0].pcm) == tone(1000) and not done.sink.clears


def test_a_silent_viewer_is_spoken_to():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: len(it.sink.segments) == 2)

    assert call(talk, turn_detection={**TURNS, "idle_timeout_ms": 50}).told("idle")


def test_the_names_of_the_beta_are_understood():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[0].ended)

    done = call(talk, Script(beta=True))
    assert bytes(done.sink.segments[0].pcm) == tone(1000)
    assert done.told("avatar_text")[-1].text == "la la la"


@pytest.mark.parametrize("rate", [16000, 24000, 44100, 48000])
def test_the_microphone_is_resampled_to_the_protocols_rate(rate: int):
    voice = tone(400, 440.0, rate)

    async def talk(it: Call) -> None:
        for start in range(0, len(voice), 640):
            await it.agent.hear(voice[start : start + 640], rate)
        await it.agent.finish_turn()
        await until(lambda: it.sink.segments)

    appended = call(talk, turn_detection=None).server.events("input_audio_buffer.append")
    sound = np.frombuffer(b"".join(base64.b64decode(e["audio"]) for e in appended), "<i2")
    wanted = np.frombuffer(tone(400, 440.0), "<i2")
    assert abs(len(sound) - len(wanted)) <= 1
    middle = slice(1000, 8000)
    assert np.abs(sound[middle].astype(int) - wanted[middle]).max() < 30


def test_a_conversation_may_end_before_it_begins():
    async def main() -> None:
        async with FakeRealtime() as server:
            agent = OpenAIRealtime(RealtimeConfig(Endpoint(server.url), turn_detection=None), PacedSink())
            await agent.start()
            await agent.close()
            await agent.close()
            await until(lambda: server.connections[0].closed)

    asyncio.run(main())


def test_half_a_sample_of_the_microphone_is_refused():
    async def talk(it: Call) -> None:
        with pytest.raises(InputError, match="must be even"):
            await it.agent.hear(b"abc", 24000)

    call(talk)
