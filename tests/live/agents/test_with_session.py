"""Agents on a real session: what is told to have been heard is what a viewer was given."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from musetalk.live.agents.endpoint import Endpoint
from musetalk.live.agents.livekit import LiveKitVideoGenerator
from musetalk.live.agents.openai_realtime import OpenAIRealtime
from musetalk.live.agents.realtime_events import RealtimeConfig
from musetalk.live.agents.speaker import Cut, Speaker
from musetalk.live.timeline import AudioItem

from .fake_realtime import FakeRealtime, Script, tone
from .sinks import until


def told(server: FakeRealtime) -> list[int]:
    return [event["audio_end_ms"] for event in server.events("conversation.item.truncate")]


def heard_of(packets: list[AudioItem]) -> bytes:
    """What a viewer was given of an answer, from its first sample on."""
    sound = np.frombuffer(b"".join(packet.pcm for packet in packets if packet.rate == 24000), "<i2")
    return sound[np.flatnonzero(sound)[0] - 1 :].tobytes()  # the tone begins with a zero


def test_the_viewer_interrupts_a_session_and_the_server_learns_to_the_sample_what_was_heard(fakes):
    async def main() -> None:
        async with FakeRealtime(Script(answer_ms=3000)) as server, fakes.running() as (session, clock, _):
            config = RealtimeConfig(Endpoint(server.url), model="local")
            async with OpenAIRealtime(config, session) as agent:
                await agent.send_text("hello")
                await until(lambda: session.ahead_s == 3.0)
                _, packets = await fakes.collect(session, clock, 1.23)
                await agent.hear(tone(300), 24000)
                await until(lambda: "conversation.item.truncated" in server.sent)
                heard = heard_of(packets)
                assert heard == tone(3000)[: len(heard)] and told(server) == [len(heard) // 48]
                after, packets = await fakes.collect(session, clock, 0.5)
                assert not after[0].speaking and not any(any(p.pcm) for p in packets)
            assert server.violations == []

    asyncio.run(main())


def test_an_answer_longer_than_a_session_keeps_is_taken_as_it_is_played(fakes):
    async def main() -> None:
        async with (
            FakeRealtime(Script(answer_ms=70_000, delta_ms=1000)) as server,
            fakes.running() as (session, clock, _),
        ):
            agent = OpenAIRealtime(RealtimeConfig(Endpoint(server.url), model="local"), session)
            await agent.start()
            await agent.send_text("tell me everything")
            await until(lambda: session.ahead_s == 60.0 and "response.done" in server.sent)
            _, packets = await fakes.collect(session, clock, 3)
            await until(lambda: session.ahead_s > 59)
            await agent.interrupt()
            await until(lambda: "conversation.item.truncated" in server.sent)
            heard = heard_of(packets)
            assert told(server) == [len(heard) // 48] and heard == tone(70_000)[: len(heard)]
            assert len(heard) > 2 * 24 * 2500
            await agent.close()

    asyncio.run(main())


def test_the_viewers_voice_ends_what_another_speaker_of_the_session_says_to_the_sample(fakes):
    async def main() -> None:
        async with FakeRealtime() as server, fakes.running() as (session, clock, _):
            cut: list[list[Cut]] = []
            speech = Speaker(session, 24000, pytest.fail, cut.append)
            async with OpenAIRealtime(RealtimeConfig(Endpoint(server.url), model="local"), session) as agent:
                for _ in range(4):
                    speech.say("story", tone(20_000))
                await until(lambda: session.ahead_s == 60.0)
                _, packets = await fakes.collect(session, clock, 1.0)
                await agent.hear(tone(300), 24000)
                await until(lambda: cut)
                speech.say("story", tone(1000))
                assert cut == [[Cut("story", len(heard_of(packets)) // 48)]]
                _, packets = await fakes.collect(session, clock, 0.5)
                assert not any(any(p.pcm) for p in packets) and session.ahead_s == 0
            await speech.close()

    asyncio.run(main())


def test_livekit_gets_the_sound_of_a_session_and_where_it_ends(fakes):
    pytest.importorskip("livekit.agents", reason="NOT RUN: needs livekit-agents (the livekit extra)")
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioSegmentEnd

    async def main() -> list[object]:
        async with fakes.running() as (session, clock, _):
            generator = LiveKitVideoGenerator(session)
            frames: list[object] = []

            async def read() -> None:
                async for frame in generator:
                    frames.append(frame)

            reading = asyncio.create_task(read())
            await clock.advance(0.2)
            for _ in range(2):
                await generator.push_audio(rtc.AudioFrame(tone(400), 24000, 1, 9600))
                await generator.push_audio(AudioSegmentEnd())
            await clock.advance(2.0)
            await session.close()
            await reading
            return frames

    frames = asyncio.run(main())
    sound = [
        frame if isinstance(frame, AudioSegmentEnd) else bytes(frame.data)
        for frame in frames
        if not isinstance(frame, rtc.VideoFrame)
    ]
    ends = [index for index, frame in enumerate(sound) if isinstance(frame, AudioSegmentEnd)]
    assert ends == [20, 41]
    assert b"".join(sound[:20]) == b"".join(sound[21:41]) == tone(400)
