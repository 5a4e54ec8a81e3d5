"""Turns of a conversation: every event our client sends is checked against the openai SDK's types."""

from __future__ import annotations

import asyncio
import base64
import json

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from musetalk.errors import InputError
from musetalk.live.agents.endpoint import Endpoint
from musetalk.live.agents.openai_realtime import OpenAIRealtime
from musetalk.live.agents.realtime_events import RealtimeConfig, turn_detection_of
from musetalk.live.agents.speaker import Speaker

from .calls import TURNS, Call, call
from .fake_realtime import FakeRealtime, Script, tone
from .sinks import PacedSink, settle, until


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
        await until(lambda: it.told("avatar_done"))  # the server tells it after the last piece of the answer
        await settle()
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
        await until(lambda: it.told("interrupted"))

    done = call(talk, Script(answer_ms=20_000), PacedSink(ahead_s=1.0))
    assert done.told("interrupted")[0].heard_ms == 250


def test_an_avatar_that_counts_more_than_was_sent_does_not_truncate_too_far():
    class Generous(PacedSink):
        def clear(self):
            from dataclasses import replace

            return replace(super().clear(), segment=0, played_ms=5000)

    async def talk(it: Call) -> None:
        await it.speak()
        # Two pieces of the answer have come, and the third is not on its way yet.
        await until(lambda: it.sink.segments and len(it.sink.segments[0].pcm) == len(tone(400)))
        await it.speak(quiet_ms=0)
        await until(lambda: "conversation.item.truncated" in it.server.sent)

    done = call(talk, Script(stop_after=2), Generous())
    assert done.server.events("conversation.item.truncate")[0]["audio_end_ms"] == 400
    assert done.told("interrupted")[0].heard_ms == 400 and not done.told("error")


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


def test_silence_comes_before_the_server_is_told_to_cancel_and_then_to_truncate():
    async def talk(it: Call) -> None:
        await it.agent.send_text("hello")
        await until(lambda: it.sink.segments)
        it.sink.play(50)
        before = len(it.server.received)
        interrupting = asyncio.ensure_future(it.agent.interrupt())
        await asyncio.sleep(0)  # one step of it, in which no server can answer
        assert len(it.sink.clears) == 2 and it.told("interrupted")[0].heard_ms == 50
        await interrupting
        await until(lambda: "conversation.item.truncated" in it.server.sent)
        told = [event["type"] for event in it.server.received[before:]]
        assert told == ["response.cancel", "conversation.item.truncate"]

    assert not call(talk, Script(gap_s=0.03)).told("error")


def test_turns_at_the_same_time_are_taken_one_after_the_other():
    async def talk(it: Call) -> None:
        await asyncio.gather(*(it.agent.send_text(text) for text in "abc"))
        await asyncio.gather(*(it.agent.interrupt() for _ in range(3)))
        await it.speak(quiet_ms=0)
        await asyncio.gather(it.agent.finish_turn(), it.agent.send_text("d"), it.agent.finish_turn())
        await until(lambda: it.sink.segments and it.sink.segments[-1].ended)

    done = call(talk, Script(gap_s=0.005), turn_detection=None)
    assert [e["item"]["content"][0]["text"] for e in done.server.events("conversation.item.create")] == list("abcd")
    assert len(done.server.events("response.create")) == 5
    assert not done.told("error")


def test_an_answer_that_is_interrupted_before_it_begins_is_not_heard():
    async def talk(it: Call) -> None:
        await it.agent.send_text("hello")
        await it.agent.interrupt()
        await it.agent.interrupt()
        await until(lambda: "response.done" in it.server.sent)
        await it.agent.send_text("again")
        await until(lambda: it.sink.segments and it.sink.segments[-1].ended)

    done = call(talk, Script(gap_s=0.01))
    assert [bytes(s.pcm) for s in done.sink.segments] == [tone(1000)]
    assert len(done.server.events("response.cancel")) == 1 and len(done.told("avatar_started")) == 1
    assert not done.told("error")


def test_an_answer_that_another_speaker_silences_is_cancelled_and_truncated_where_it_was():
    async def talk(it: Call) -> None:
        await it.agent.send_text("hello")
        await until(lambda: it.sink.segments)
        it.sink.play(70)
        another = Speaker(it.sink, 24000, pytest.fail)
        assert another.stop() == []
        assert it.told("interrupted")[0].heard_ms == 70
        await until(lambda: "conversation.item.truncated" in it.server.sent)
        another.say("x", tone(40))
        another.finish("x")
        await until(lambda: it.sink.segments[-1].ended)
        await another.close()

    done = call(talk, Script(gap_s=0.03, late_delta=True))
    assert done.server.events("conversation.item.truncate")[0]["audio_end_ms"] == 70
    assert len(done.server.events("response.cancel")) == 1 and not done.told("error")
    assert len(done.sink.segments) == 2 and bytes(done.sink.segments[1].pcm) == tone(40)


@pytest.mark.parametrize("name", ["response.output_text", "response.text"])
def test_an_answer_in_text_alone_is_told(name: str):
    where = {"event_id": "e", "response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
    pieces = [{"type": f"{name}.delta", "delta": "Hel"}, {"type": f"{name}.done", "text": "Hello."}]

    async def talk(it: Call) -> None:
        await it.agent.send_text("hello")
        await until(lambda: it.told("avatar_done"))

    done = call(talk, Script(before_answer=[json.dumps({**where, **piece}) for piece in pieces]))
    assert [(e.text, e.final) for e in done.told("avatar_text")][:2] == [("Hel", False), ("Hello.", True)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": " "}, "has no name"),
        ({"output_rate": 0}, "give 8000..96000"),
        ({"turn_detection": {"type": "manual"}}, "give server_vad, semantic_vad, or None"),
        ({"turn_detection": {"type": "server_vad", "eagerness": "low"}}, "server_vad has no eagerness"),
        ({"speed": 2.0}, "give 0.25..1.5"),
    ],
)
def test_settings_the_protocol_has_not_are_refused(options: dict[str, object], words: str):
    with pytest.raises(InputError, match=words):
        RealtimeConfig(**options)


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


def test_a_turn_is_not_ended_by_hand_where_the_server_hears_its_end():
    async def talk(it: Call) -> None:
        await it.speak(quiet_ms=0)
        with pytest.raises(InputError, match="server_vad"):
            await it.agent.finish_turn()

    done = call(talk)
    assert not done.server.events("input_audio_buffer.commit") and not done.server.events("response.create")


@pytest.mark.parametrize("turns", ["server_vad", "semantic_vad", "manual"])
def test_turns_by_their_word(turns: str):
    async def talk(it: Call) -> None:
        await until(lambda: "session.updated" in it.server.sent)

    done = call(talk, turn_detection=turn_detection_of(turns))
    (update,) = done.server.events("session.update")
    given = update["session"]["audio"]["input"]["turn_detection"]
    assert given == (
        None if turns == "manual" else {"type": turns, "create_response": True, "interrupt_response": True}
    )


def test_turns_by_another_word_are_refused():
    with pytest.raises(InputError, match="server_vad, semantic_vad, manual"):
        turn_detection_of("none")


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
        await until(lambda: len(it.sink.segments) == 2 and it.sink.segments[1].ended)

    done = call(talk, turn_detection={**TURNS, "idle_timeout_ms": 50})
    assert [bytes(segment.pcm) for segment in done.sink.segments[:2]] == [tone(1000)] * 2
    kinds = [event.kind for event in done.events]
    assert kinds.index("avatar_done") < kinds.index("idle") and kinds.count("user_started") == 1


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
