"""A viewer's microphone over WebRTC to our server, on to a Realtime server, and the avatar's voice back to the viewer.

Every event that reaches the Realtime server is checked against the openai SDK's types.
"""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("aiortc", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from .calls import KEY, TURNS
from .fake_realtime import RATE, Script, tone
from .sinks import until
from .stage import MIC_HERTZ, Stage, serving, talk


def pitch(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


def microphone_at_the_agent(stage: Stage) -> np.ndarray:
    events = stage.agent.events("input_audio_buffer.append")
    return np.frombuffer(b"".join(base64.b64decode(event["audio"]) for event in events), "<i2")


def seconds_of(answer: bytes) -> float:
    return len(answer) / (2 * RATE)


def test_a_plain_turn_from_the_microphone_to_the_loudspeaker(fakes):
    async def conversation(stage: Stage) -> None:
        stage.viewer.microphone.say(400)
        await until(lambda: stage.viewer.told("avatar_done"))
        await stage.viewer.hears(1)

    stage = talk(fakes, conversation, Script(key=KEY), turn_detection=TURNS)
    assert stage.answers() == [tone(1000)]
    assert [event["kind"] for event in stage.viewer.events if event["type"] == "agent"] == [
        "user_started",
        "user_stopped",
        "avatar_started",
        "avatar_text",
        "avatar_text",
        "avatar_done",
    ]
    ((begin, end),) = stage.viewer.spoken()
    assert abs(end - begin - 1.0) <= 0.06
    assert abs(pitch(np.concatenate(stage.viewer.samples), 48000) - 220) < 3
    assert abs(pitch(microphone_at_the_agent(stage), RATE) - MIC_HERTZ) < 3
    assert stage.viewer.pictures > 1 and not stage.viewer.errors()
    assert not stage.agent.events("conversation.item.truncate") and not stage.agent.events("response.cancel")


def test_barge_in_silences_the_loudspeaker_and_the_agent_learns_to_the_sample_what_was_given(fakes):
    async def conversation(stage: Stage) -> None:
        stage.viewer.microphone.say(400)
        await until(lambda: stage.viewer.spoken() and stage.viewer.spoken()[0][1] - stage.viewer.spoken()[0][0] > 0.5)
        stage.viewer.microphone.say(400)
        await until(lambda: "conversation.item.truncated" in stage.agent.sent)
        stage.agent.script.answer_ms = 300
        await until(lambda: len(stage.viewer.told("avatar_done")) == 2)
        await stage.viewer.hears(2)

    stage = talk(fakes, conversation, Script(key=KEY, answer_ms=20_000), turn_detection=TURNS)
    cut, whole = stage.answers()
    assert whole == tone(300) and cut == tone(20_000)[: len(cut)]
    (truncated,) = stage.agent.events("conversation.item.truncate")
    assert truncated["audio_end_ms"] == len(cut) // 48
    assert [event["heard_ms"] for event in stage.viewer.told("interrupted")] == [truncated["audio_end_ms"]]
    assert 500 < truncated["audio_end_ms"] < 20_000
    (begin, end), _ = stage.viewer.spoken()
    assert abs(end - begin - seconds_of(cut)) <= 0.06
    assert not stage.viewer.errors() and not stage.agent.events("response.cancel")


def test_a_silent_viewer_is_spoken_to_again(fakes):
    async def conversation(stage: Stage) -> None:
        stage.viewer.microphone.say(400)
        await stage.viewer.hears(2)

    turns = {**TURNS, "idle_timeout_ms": 800}
    stage = talk(fakes, conversation, Script(key=KEY, answer_ms=300), turn_detection=turns)
    assert stage.viewer.told("idle") and len(stage.viewer.told("user_started")) == 1
    assert stage.answers()[:2] == [tone(300)] * 2 and not stage.viewer.errors()


def test_turns_by_hand_from_the_data_channel(fakes):
    """The second turn ends while the first one is answered: it cuts that answer off."""

    def loud_ms(stage: Stage) -> int:
        return int((abs(microphone_at_the_agent(stage).astype(int)) > 1000).sum()) * 1000 // RATE

    async def conversation(stage: Stage) -> None:
        stage.viewer.microphone.say(400)
        await until(lambda: loud_ms(stage) > 300)
        assert not stage.agent.events("response.create") and not stage.viewer.spoken()
        stage.viewer.command(type="turn_end")
        await until(lambda: stage.viewer.spoken() and stage.viewer.spoken()[0][1] - stage.viewer.spoken()[0][0] > 0.3)
        assert [event["type"] for event in stage.viewer.events].count("turn_ended") == 1
        before = loud_ms(stage)
        stage.viewer.microphone.say(400)
        await until(lambda: loud_ms(stage) - before > 300)
        stage.agent.script.answer_ms = 300
        stage.viewer.command(type="turn_end")
        await until(lambda: len(stage.viewer.told("avatar_done")) == 2)
        await stage.viewer.hears(2)

    stage = talk(fakes, conversation, Script(key=KEY, answer_ms=20_000, think_s=0.3), turn_detection=None)
    turn = ("input_audio_buffer.commit", "response.create", "conversation.item.truncate")
    assert [event["type"] for event in stage.agent.received if event["type"] in turn] == [*turn[:2], turn[2], *turn[:2]]
    cut, whole = stage.answers()
    assert whole == tone(300) and cut == tone(20_000)[: len(cut)]
    assert stage.agent.events("conversation.item.truncate")[0]["audio_end_ms"] == len(cut) // 48
    assert not stage.viewer.errors() and not stage.viewer.told("user_started")


def test_the_viewer_types_and_silences_an_answer_that_still_arrives(fakes):
    async def conversation(stage: Stage) -> None:
        stage.viewer.command(type="ask", text="Tell me a story.")
        await until(lambda: stage.viewer.spoken())
        stage.viewer.command(type="clear")
        await until(lambda: "conversation.item.truncated" in stage.agent.sent)
        await stage.viewer.hears(1)

    stage = talk(fakes, conversation, Script(key=KEY, answer_ms=20_000, gap_s=0.1, late_delta=True))
    (cut,) = stage.answers()
    told = [event["type"] for event in stage.agent.received if event["type"] != "input_audio_buffer.append"]
    assert told == [
        "session.update",
        "conversation.item.create",
        "response.create",
        "response.cancel",
        "conversation.item.truncate",
    ]
    assert stage.agent.events("conversation.item.truncate")[0]["audio_end_ms"] == len(cut) // 48
    assert [event["played_ms"] for event in stage.viewer.events if event["type"] == "cleared"] == [len(cut) // 48]
    assert not stage.viewer.errors()


def test_nonsense_of_the_agent_is_told_to_the_viewer_who_hears_the_answer_all_the_same(fakes):
    async def conversation(stage: Stage) -> None:
        stage.viewer.microphone.say(400)
        await stage.viewer.hears(1)

    nonsense: list[str | bytes] = ["{", '{"type": "response.output_audio.delta", "delta": "no base64!"}', b"\xff\xfe"]
    stage = talk(fakes, conversation, Script(key=KEY, answer_ms=300, before_answer=nonsense), turn_detection=TURNS)
    assert stage.answers() == [tone(300)]
    assert len(stage.viewer.errors()) == len(stage.viewer.told("error")) == 3


def test_turns_cannot_be_ended_by_hand_where_the_agent_hears_that_itself(fakes):
    async def conversation(stage: Stage) -> None:
        stage.viewer.command(type="turn_end")
        await until(lambda: stage.viewer.errors())

    (error,) = talk(fakes, conversation).viewer.errors()
    assert error["code"] == "bad_input" and "server_vad" in error["message"]


def test_turns_cannot_be_ended_where_there_is_no_agent(fakes):
    async def main() -> list[str]:
        async with serving(fakes, {}) as (http, session, _):
            async with http.post(f"sessions/{session}/turn_end") as answer:
                codes = [(await answer.json())["error"]["code"]]
            async with http.ws_connect(f"sessions/{session}/socket") as socket:
                await socket.send_json({"type": "start", "rate": 24000, "video": "none", "audio": False})
                await socket.send_json({"type": "turn_end"})
                while (event := await socket.receive_json(timeout=10))["type"] != "error":
                    assert event["type"] != "turn_ended"
                return [*codes, event["code"]]

    assert asyncio.run(main()) == ["no_agent", "no_agent"]
