"""The model-free agent, driven by the real openai client: what our client is tested against is itself right."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")
pytest.importorskip("websockets", reason="NOT RUN: needs openai[realtime]")

import openai

from .fake_realtime import FakeRealtime, Script, tone

PLAIN_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    *["response.output_audio.delta"] * 5,
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
    "rate_limits.updated",
]
SESSION = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}},
}


def converse(script: Script, talk: Any) -> FakeRealtime:
    """Run ``talk(connection, read)`` with the openai client; ``read(kind)`` waits for one event of that type."""

    async def main() -> FakeRealtime:
        async with FakeRealtime(script) as server, openai.AsyncOpenAI(api_key="local", base_url=server.url) as client:
            async with client.realtime.connect(model="local") as connection:

                async def read(kind: str) -> Any:
                    while True:
                        event = await connection.recv()
                        if event.type == kind:
                            return event

                await read("session.created")
                await asyncio.wait_for(talk(connection, read), 10)
            assert not server.violations
            return server

    return asyncio.run(main())


async def speak(connection: Any, ms: int = 300, quiet_ms: int = 300) -> None:
    pcm = tone(ms) + bytes(48 * quiet_ms)
    await connection.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())


def test_a_plain_turn_comes_in_the_order_of_the_protocol():
    sound = bytearray()

    async def talk(connection, read):
        await connection.session.update(session=SESSION)
        await read("session.updated")
        await speak(connection)
        async for event in connection:
            if event.type == "response.output_audio.delta":
                sound.extend(base64.b64decode(event.delta))
            if event.type == "rate_limits.updated":
                return

    server = converse(Script(), talk)
    assert server.sent[2:] == PLAIN_TURN
    assert bytes(sound) == tone(1000)


def test_the_viewers_voice_cancels_an_answer():
    async def talk(connection, read):
        await connection.session.update(session=SESSION)
        await speak(connection)
        item = (await read("response.output_audio.delta")).item_id
        await speak(connection)
        done = await read("response.done")
        assert (done.response.status, done.response.status_details.reason) == ("cancelled", "turn_detected")
        await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=120)
        assert (await read("conversation.item.truncated")).audio_end_ms == 120

    converse(Script(gap_s=0.05), talk)


def test_a_manual_turn_and_cancelling():
    async def talk(connection, read):
        await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        await connection.input_audio_buffer.commit()
        assert (await read("error")).error.code == "input_audio_buffer_commit_empty"
        await speak(connection)
        await connection.input_audio_buffer.commit()
        await read("input_audio_buffer.committed")
        await connection.response.create()
        await read("response.output_audio.delta")
        await connection.response.create()
        assert (await read("error")).error.code == "conversation_already_has_active_response"
        await connection.response.cancel()
        assert (await read("response.done")).response.status_details.reason == "client_cancelled"
        await connection.response.cancel()
        assert (await read("error")).error.code == "response_cancel_not_active"

    server = converse(Script(gap_s=0.05), talk)
    assert "input_audio_buffer.speech_started" not in server.sent


def test_truncating_beyond_the_end_is_an_error_and_changes_nothing():
    async def talk(connection, read):
        await connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        )
        await connection.response.create()
        item = (await read("response.output_audio.done")).item_id
        await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=1001)
        assert "already shorter" in (await read("error")).error.message
        await connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=1000)
        await read("conversation.item.truncated")

    converse(Script(), talk)


def test_a_silent_viewer_is_spoken_to():
    async def talk(connection, read):
        turns = {"type": "server_vad", "idle_timeout_ms": 50, "silence_duration_ms": 200}
        await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
        await speak(connection)
        await read("response.done")
        await read("input_audio_buffer.timeout_triggered")
        await read("input_audio_buffer.committed")
        assert (await read("response.done")).response.status == "completed"

    converse(Script(), talk)


def test_what_is_no_client_event_is_refused_and_remembered():
    async def main():
        async with FakeRealtime() as server, openai.AsyncOpenAI(api_key="local", base_url=server.url) as client:
            async with client.realtime.connect(model="local") as connection:
                await connection.send({"type": "response.create", "respones": {}})
                await connection.send({"type": "session.created"})
                codes = [event.error.code async for event in _two_errors(connection)]
            assert codes == ["invalid_event", "invalid_event"]
            assert len(server.violations) == 2

    async def _two_errors(connection):
        seen = 0
        async for event in connection:
            if event.type == "error":
                seen += 1
                yield event
            if seen == 2:
                return

    asyncio.run(main())
