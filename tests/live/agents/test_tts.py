"""Text becomes speech through an OpenAI-compatible endpoint, the requests checked against the openai SDK's types."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

import openai
from aiohttp import web
from openai.types.audio.speech_create_params import SpeechCreateParams
from pydantic import TypeAdapter

from musetalk.errors import InputError
from musetalk.live.agents.backoff import Backoff
from musetalk.live.agents.base import AgentError, AgentEvent
from musetalk.live.agents.endpoint import Endpoint, Secret
from musetalk.live.agents.speaker import Speaker
from musetalk.live.agents.tts import OpenAISpeech, SpeechConfig, split_text

from .fake_realtime import tone
from .sinks import PacedSink, until

KEY = "sk-local-0123456789abcdef"
PARAMS: TypeAdapter[Any] = TypeAdapter(SpeechCreateParams)


class SpeechServer:
    """Says 100 ms of tone for each text. failures: statuses of the first answers; cut: breaks off in the middle."""

    def __init__(self, failures: list[int] | None = None, body: bytes = tone(100), gap_s: float = 0, cut: bool = False):
        self.failures = failures or []
        self.body, self.gap_s, self.cut = body, gap_s, cut
        self.requests: list[dict[str, Any]] = []

    async def __aenter__(self) -> SpeechServer:
        app = web.Application()
        app.router.add_post("/v1/audio/speech", self._speak)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        PARAMS.validate_python(body)
        assert set(body) <= set(SpeechCreateParams.__annotations__)
        self.requests.append(body)
        if self.failures:
            status = self.failures.pop(0)
            if status == 307:
                raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/elsewhere")
            return web.Response(status=status, text=f"no, {request.headers['Authorization']} is wrong")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(self.body), 999):
            await response.write(self.body[start : start + 999])
            await asyncio.sleep(self.gap_s)
            if self.cut:
                assert request.transport is not None
                request.transport.abort()
        return response


def speak(server: SpeechServer, talk: Any, **options: Any) -> tuple[PacedSink, list[AgentEvent]]:
    async def main() -> tuple[PacedSink, list[AgentEvent]]:
        sink, events = PacedSink(), []
        async with server:
            config = SpeechConfig(Endpoint(server.url, Secret(KEY)), **options)
            async with OpenAISpeech(config, sink, events.append, Backoff(0.01, 0.02, 2)) as speech:
                await asyncio.wait_for(talk(speech, sink, events), 60)
        return sink, events

    return asyncio.run(main())


def told(events: list[AgentEvent], kind: str) -> list[AgentEvent]:
    return [event for event in events if event.kind == kind]


def test_each_text_is_one_segment_and_each_sentence_one_request():
    async def talk(speech, sink, events) -> None:
        await speech.send_text("Hello there. How are you?")
        speech.append_text("Fine!")
        await until(lambda: len(sink.segments) == 2 and sink.segments[1].ended)

    server = SpeechServer()
    sink, events = speak(server, talk, voice="coral", instructions="Whisper.", speed=1.2)
    assert [bytes(s.pcm) for s in sink.segments] == [tone(100) * 2, tone(100)]
    assert [r["input"] for r in server.requests] == ["Hello there.", "How are you?", "Fine!"]
    assert [e.text for e in told(events, "avatar_text")] == ["Hello there. How are you?", "Fine!"]


def test_another_text_cuts_off_the_one_before():
    async def talk(speech, sink, events) -> None:
        await speech.send_text("A long story.")
        await until(lambda: sink.segments and sink.segments[0].pcm)
        sink.play(10)
        await speech.send_text("Enough.")
        await until(lambda: len(sink.segments) == 2 and sink.segments[1].ended)
        await speech.interrupt()
        await speech.interrupt()

    sink, events = speak(SpeechServer(gap_s=0.02), talk)
    assert len(sink.segments[0].pcm) < len(tone(100)) == len(sink.segments[1].pcm)
    assert told(events, "interrupted")[0].heard_ms == 10


def readers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "agent-speech"]


def test_calls_at_the_same_time_leave_one_reader_and_none_after_closing():
    async def talk(speech, sink, events) -> None:
        await speech.send_text("A long story.")
        await until(lambda: sink.segments and sink.segments[0].pcm)
        await asyncio.gather(*(speech.interrupt() for _ in range(3)))
        await until(lambda: len(readers()) == 1)
        assert len(told(events, "interrupted")) == 1
        await asyncio.gather(speech.interrupt(), speech.send_text("One."), speech.send_text("Two."), speech.interrupt())
        await until(lambda: len(readers()) == 1)
        await speech.send_text("Three.")
        await until(lambda: sink.segments[-1].ended)
        assert not speech.closed
        await asyncio.gather(speech.interrupt(), speech.close(), speech.interrupt(), speech.close())
        assert speech.closed and readers() == []
        await speech.interrupt()
        assert readers() == []
        with pytest.raises(AgentError, match="the conversation is over") as caught:
            await speech.send_text("Hello?")
        assert caught.value.code == "closed"
        with pytest.raises(InputError, match="make another"):
            await speech.start()

    sink, _ = speak(SpeechServer(gap_s=0.01), talk)
    assert bytes(sink.segments[-1].pcm) == tone(100)


def test_silence_by_another_ends_the_text_that_is_read_and_those_that_wait():
    async def talk(speech, sink, events) -> None:
        another = Speaker(sink, 24000, pytest.fail)
        await speech.send_text("A long story. With an end.")
        speech.append_text("And another.")
        await until(lambda: sink.segments and sink.segments[0].pcm)
        sink.play(7)
        assert another.stop() == []
        assert told(events, "interrupted")[0].heard_ms == 7
        speech.append_text("Enough.")
        await until(lambda: sink.segments[-1].ended)
        await another.close()

    server = SpeechServer(gap_s=0.01)
    sink, _ = speak(server, talk)
    assert [r["input"] for r in server.requests] == ["A long story.", "Enough."]
    assert len(sink.segments) == 2 and bytes(sink.segments[1].pcm) == tone(100)


def test_a_busy_server_is_asked_again():
    async def talk(speech, sink, events) -> None:
        await speech.send_text("Hello.")
        await until(lambda: sink.segments and sink.segments[0].ended)

    server = SpeechServer([503, 429])
    sink, events = speak(server, talk)
    assert len(server.requests) == 3 and not told(events, "error") and bytes(sink.segments[0].pcm) == tone(100)


@pytest.mark.parametrize(
    ("server", "requests", "words"),
    [
        (SpeechServer([401]), 1, r"HTTP 401.*: no, Bearer \[hidden\] is wrong"),
        (SpeechServer([503] * 9), 3, "HTTP 503"),
        (SpeechServer([307]), 1, "HTTP 307"),
        (SpeechServer(body=b"RIFF" + bytes(999)), 1, "response_format pcm"),
        (SpeechServer(cut=True), 1, "cannot reach the speech endpoint"),
    ],
)
def test_a_failure_is_told_without_the_key_and_the_next_text_is_said(server, requests, words, caplog):
    caplog.set_level(logging.DEBUG)

    async def talk(speech, sink, events) -> None:
        await speech.send_text("Hello.")
        await until(lambda: told(events, "error"))
        assert len(server.requests) == requests
        server.failures, server.body, server.cut = [], tone(100), False
        speech.append_text("Again.")
        await until(lambda: sink.segments and bytes(sink.segments[-1].pcm) == tone(100))

    _, events = speak(server, talk)
    assert re.search(words, told(events, "error")[0].text)
    assert "0123456789abcdef" not in caplog.text + str(events)
    assert server.url in caplog.text and "127.0.0.1" not in str(events)


def test_what_cannot_be_said_is_refused_at_once():
    async def talk(speech, sink, events) -> None:
        for text in ("", " \n"):
            with pytest.raises(InputError, match="no text to say"):
                await speech.send_text(text)
        with pytest.raises(AgentError, match="2 texts are waiting"):
            for _ in range(4):
                speech.append_text("Hello.")

    speak(SpeechServer(gap_s=1), talk, queue=2)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("3.5 metres", ["3.5 metres"]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("a\n\nb", ["a", "b"]),
        ("aaaa bbbb cccc", ["aaaa bbbb", "cccc"]),
        ("abcdefghijklmn", ["abcdefghij", "klmn"]),
        ("...", ["..."]),
        ("  ", []),
    ],
)
def test_text_is_divided_at_sentences_then_words(text: str, parts: list[str]):
    assert split_text(text, 10 if len(text) < 15 else 100) == parts


def test_the_real_client_gets_the_same_sound_from_the_same_server():
    async def main() -> bytes:
        async with SpeechServer() as server, openai.AsyncOpenAI(api_key=KEY, base_url=server.url) as client:
            response = await client.audio.speech.create(
                model="gpt-4o-mini-tts", voice="alloy", input="Hello.", response_format="pcm"
            )
            assert server.requests == [SpeechConfig().request("Hello.")]
            return response.content

    assert asyncio.run(main()) == tone(100)
