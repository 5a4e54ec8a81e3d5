"""An agent that is not OpenAI's: the example of the documentation, on a real service and over WebRTC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="NOT RUN: needs the live extra")
pytest.importorskip("aiortc", reason="NOT RUN: needs the live extra")
pytest.importorskip("openai", reason="NOT RUN: needs the openai SDK (the dev extra)")

from musetalk import prepare_avatar
from musetalk.live.assembly import build_service
from musetalk.live.timeline import AudioItem

from .fake_realtime import tone
from .local_agent import LocalAgent
from .sinks import PacedSink, settle, until
from .stage import MIC_HERTZ, Viewer, serving


async def pitch(pcm: bytes, rate: int) -> str:
    """Recognises one word: the pitch of the loudest tone."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return f"{np.fft.rfftfreq(len(samples), 1 / rate)[np.abs(np.fft.rfft(samples)).argmax()]:.0f} Hz"


async def echo(text: str) -> str:
    if text == "fail":
        raise RuntimeError("the model is not loaded")
    return text.upper()


async def hum(answer: str) -> AsyncIterator[bytes]:
    """100 ms of tone for each letter."""
    for _ in answer:
        yield tone(100)
        await asyncio.sleep(0)


async def drone(answer: str) -> AsyncIterator[bytes]:
    """Speech without an end, as fast as it is heard."""
    while True:
        yield tone(100)
        await asyncio.sleep(0.1)


local = partial(LocalAgent, pitch, echo, hum)


def test_a_service_speaks_with_the_voice_of_any_agent(mesh_models, portrait_frames, tmp_path):
    sent = np.frombuffer(tone(100) * 5, "<i2")

    async def main() -> tuple[bytes, list[dict]]:
        service = build_service(mesh_models, tmp_path / "avatars", agents={"agent": local})
        avatar = prepare_avatar(mesh_models, portrait_frames[:1], boxes=np.array([[139, 60, 232, 176]]))
        await asyncio.to_thread(service.store.add, "ada", avatar)
        session, told, heard = await service.create_session("ada"), [], b""
        leave = service.join(session, told.append)
        try:
            await service.send_text(session, "hello", to_agent=True)
            async with session.media() as items:
                async for item in items:
                    if isinstance(item, AudioItem) and item.rate == 24000:
                        heard += item.pcm
                    if np.count_nonzero(np.frombuffer(heard, "<i2")) >= np.count_nonzero(sent):
                        break
        finally:
            leave()
            await service.close()
        return heard, told

    heard, told = asyncio.run(asyncio.wait_for(main(), 120))
    samples = np.frombuffer(heard, "<i2")
    assert (samples[samples != 0] == sent[sent != 0]).all()  # on a slow machine with pauses
    news = [(event["kind"], event["text"]) for event in told if event["type"] == "agent"]
    assert news == [("connected", ""), ("avatar_started", ""), ("avatar_text", "HELLO"), ("avatar_done", "")]


def test_the_viewer_talks_to_it_over_webrtc_and_cuts_it_off(fakes):
    heard = bytearray()

    class Listening(LocalAgent):
        async def hear(self, pcm: bytes, rate: int) -> None:
            heard.extend(pcm)
            await super().hear(pcm, rate)

    def loud_samples() -> int:
        return int((abs(np.frombuffer(bytes(heard), "<i2").astype(int)) > 1000).sum())

    async def main() -> tuple[Viewer, int]:
        async with serving(fakes, {"agent": partial(Listening, pitch, echo, drone)}) as (http, session, given):
            viewer = Viewer()
            await viewer.join(http, f"sessions/{session}/whep?microphone=agent")
            viewer.microphone.say(400)
            await until(lambda: loud_samples() > 300 * 48)
            viewer.command(type="turn_end")
            await until(lambda: viewer.spoken())
            viewer.command(type="clear")
            await viewer.hears(1)
            await viewer.leave()
        return viewer, int(np.count_nonzero(np.frombuffer(b"".join(given), "<i2")))

    viewer, given = asyncio.run(asyncio.wait_for(main(), 60))
    (text,) = viewer.told("user_text")
    assert abs(float(text["text"].removesuffix(" Hz")) - MIC_HERTZ) < 5
    (cleared,) = (event for event in viewer.events if event["type"] == "cleared")
    (interrupted,) = viewer.told("interrupted")
    assert 0 < interrupted["heard_ms"] == cleared["played_ms"]
    assert 0.95 * 24 * cleared["played_ms"] < given <= 24 * cleared["played_ms"] + 24  # the tone has zeros within
    assert not viewer.errors() and not viewer.told("avatar_done")


def test_a_part_that_fails_is_told_and_the_conversation_goes_on():
    async def main() -> None:
        sink, events = PacedSink(), []
        async with local(sink, events.append) as agent:
            await agent.send_text("fail")
            await until(lambda: events[-1].kind == "avatar_done")
            await agent.send_text("again")
            await until(lambda: sink.segments and sink.segments[-1].ended)
            await agent.finish_turn()  # nothing was said
            await settle()
        assert [bytes(segment.pcm) for segment in sink.segments] == [tone(100) * 5]
        assert [(event.text, event.code) for event in events if event.kind == "error"] == [
            ("the model is not loaded", "RuntimeError")
        ]
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("agent-")] == []

    asyncio.run(asyncio.wait_for(main(), 30))


def test_the_documentation_shows_this_agent():
    code = Path(__file__).with_name("local_agent.py").read_text("utf-8").partition("\n\n")[2]
    assert code in (Path(__file__).parents[3] / "docs" / "live_agent.md").read_text("utf-8")
