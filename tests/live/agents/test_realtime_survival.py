"""What a conversation survives, and what never shows: nonsense, lost connections, refusals, the key."""

from __future__ import annotations

import asyncio
import base64
import json
import logging

import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from musetalk.errors import InputError
from musetalk.live.agents.backoff import Backoff
from musetalk.live.agents.base import AgentError, AgentRefusedError
from musetalk.live.agents.endpoint import Endpoint
from musetalk.live.agents.openai_realtime import OpenAIRealtime
from musetalk.live.agents.realtime_events import RealtimeConfig
from musetalk.live.errors import SessionClosedError

from .calls import KEY, Call, call
from .fake_realtime import Script, tone
from .sinks import PacedSink, until


def delta(**fields: object) -> str:
    where = {"event_id": "e", "response_id": "resp_x", "item_id": "item_x", "output_index": 0, "content_index": 0}
    return json.dumps({"type": "response.output_audio.delta", **where, "delta": "", **fields})


MALFORMED = [
    "",
    "{",
    "[" * 100_000,
    "null",
    "[]",
    '"text"',
    "{}",
    '{"type": 3}',
    '{"type": "error"}',
    '{"type": "error", "error": []}',
    '{"type": "error", "error": {"message": 7}}',
    '{"type": "response.created", "response": []}',
    '{"type": "response.created", "response": {"id": {}}}',
    '{"type": "response.done", "response": 5}',
    '{"type": "session.updated", "session": {"audio": []}}',
    '{"type": "session.updated", "session": {"audio": {"output": {"format": {"type": "audio/pcmu"}}}}}',
    delta(delta="not base64!"),
    delta(delta="YQ"),
    delta(delta=None),
    delta(delta=5),
    delta(item_id=[]),
    delta(content_index="0"),
    delta(content_index=-1),
    delta(response_id={}),
    b"\xff\xfe\x00",
    b"{}",
]


def test_malformed_events_are_told_and_survived():
    unknown = ['{"type": "brand.new"}', b'{"type": "response.mcp_call.failed"}', delta()]

    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[-1].ended)

    done = call(talk, Script(before_answer=[*MALFORMED, *unknown]))
    assert len(done.told("error")) == len(MALFORMED)
    assert bytes(done.sink.segments[-1].pcm) == tone(1000)
    assert len(done.server.connections) == 1


def test_an_agent_that_talks_only_nonsense_is_left_and_called_again():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: len(it.told("connected")) == 2)
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[-1].ended)

    done = call(talk, Script(before_answer=["nonsense"] * 60))
    assert len(done.server.connections) == 2
    assert len(done.told("error")) == 50


def test_samples_divided_between_pieces_are_put_together():
    sound = tone(10)
    pieces = [sound[:7], sound[7:8], sound[8:]]
    raw = [delta(delta=base64.b64encode(piece).decode()) for piece in pieces]

    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: len(it.sink.segments) == 2)

    assert bytes(call(talk, Script(before_answer=raw)).sink.segments[0].pcm) == sound


def test_a_lost_connection_is_made_anew_and_forgets_what_it_knew():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: len(it.told("connected")) == 2)
        await it.agent.interrupt()  # what is cut belongs to a conversation that is gone
        await it.speak()
        await until(lambda: len(it.sink.segments) == 2 and it.sink.segments[1].ended)

    done = call(talk, Script(drop_after=2, gap_s=0.02))
    assert bytes(done.sink.segments[0].pcm) == tone(400) and done.sink.segments[0].ended
    assert bytes(done.sink.segments[1].pcm) == tone(1000)
    assert len(done.server.events("session.update")) == 2
    assert done.server.events("conversation.item.truncate") == []


@pytest.mark.parametrize(("status", "words"), [(503, "not found again in 3 attempts"), (401, "HTTP 401")])
def test_a_connection_that_cannot_be_made_anew_ends_the_conversation(status: int, words: str):
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.told("closed"))
        await it.agent.hear(tone(20), 24000)
        await it.agent.interrupt()
        assert it.agent.closed
        with pytest.raises(AgentError, match=f"the conversation is over: .*{words}") as caught:
            await it.agent.send_text("hello?")
        assert caught.value.code == "closed"

    done = call(talk, Script(drop_after=0, refuse_later=status))
    assert words in done.told("closed")[0].text
    assert len(done.told("closed")) == 1


def test_a_closed_session_ends_the_conversation():
    class Closed(PacedSink):
        async def push_pcm(self, pcm: bytes, rate: int) -> int:
            raise SessionClosedError("the session has ended")

    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.told("closed"))

    call(talk, sink=Closed())


@pytest.mark.parametrize(
    ("script", "error"), [(Script(key="another"), AgentRefusedError), (Script(refuse=503), AgentError)]
)
def test_a_server_that_refuses_is_told_at_the_start_without_the_key(script: Script, error: type, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(error) as caught:
        call(lambda it: asyncio.sleep(0), script)
    assert KEY not in str(caught.value) + repr(caught.value) + caplog.text
    assert "127.0.0.1" not in str(caught.value)


def test_an_unreachable_server_is_told_at_the_start_and_its_address_to_the_log_alone(caplog):
    async def main() -> None:
        agent = OpenAIRealtime(RealtimeConfig(Endpoint("http://127.0.0.1:9/v1")), PacedSink())
        with pytest.raises(AgentError, match="cannot reach the voice agent") as caught:
            await agent.start()
        assert "127.0.0.1" not in str(caught.value) and "http://127.0.0.1:9/v1" in caplog.text
        assert agent.closed
        with pytest.raises(InputError, match="make another"):
            await agent.start()

    asyncio.run(main())


def test_text_while_the_connection_is_made_anew_is_refused_for_now():
    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.told("reconnecting"))
        with pytest.raises(AgentError, match="not connected at the moment") as caught:
            await it.agent.send_text("hello?")
        assert not it.agent.closed and caught.value.code == ""

    call(talk, Script(drop_after=0), backoff=Backoff(first=5.0))


def test_a_turn_that_ends_while_the_connection_is_made_anew_is_refused_for_now():
    async def talk(it: Call) -> None:
        await it.speak()
        await it.agent.finish_turn()
        await until(lambda: it.told("reconnecting"))
        with pytest.raises(AgentError, match="not connected at the moment"):
            await it.agent.finish_turn()

    call(talk, Script(drop_after=0), backoff=Backoff(first=5.0), turn_detection=None)


def test_the_key_is_in_no_log_event_or_error(caplog):
    caplog.set_level(logging.DEBUG)
    leak = {"type": "error", "error": {"type": "x", "code": "x", "message": f"Incorrect API key provided: {KEY}."}}

    async def talk(it: Call) -> None:
        await it.speak()
        await until(lambda: it.sink.segments and it.sink.segments[0].ended)

    done = call(talk, Script(key=KEY, before_answer=[json.dumps(leak)], drop_after=3))
    assert done.told("error")[0].text == "Incorrect API key provided: [hidden]."
    assert "0123456789abcdef" not in caplog.text + str(done.events) + repr(vars(done.agent))
