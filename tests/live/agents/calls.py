"""A conversation of our Realtime client with the model-free agent, from a test's point of view."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from musetalk.live.agents.backoff import Backoff
from musetalk.live.agents.base import AgentEvent
from musetalk.live.agents.endpoint import Endpoint, Secret
from musetalk.live.agents.openai_realtime import OpenAIRealtime
from musetalk.live.agents.realtime_events import RealtimeConfig

from .fake_realtime import FakeRealtime, Script, tone
from .sinks import PacedSink

KEY = "sk-local-0123456789abcdef"
TURNS = {"type": "server_vad", "silence_duration_ms": 200, "create_response": True, "interrupt_response": True}
QUICK = Backoff(first=0.01, longest=0.02, attempts=3)


class Call:
    """An agent, the avatar it drives, the server it talks to, and what it told."""

    def __init__(self, server: FakeRealtime, sink: PacedSink, backoff: Backoff = QUICK, **options: object) -> None:
        self.server, self.sink = server, sink
        self.events: list[AgentEvent] = []
        options = {"turn_detection": TURNS, **options}
        config = RealtimeConfig(Endpoint(server.url, Secret(KEY)), model="local", **options)
        self.agent = OpenAIRealtime(config, sink, self.events.append, backoff)

    def told(self, kind: str) -> list[AgentEvent]:
        return [event for event in self.events if event.kind == kind]

    async def speak(self, ms: int = 300, quiet_ms: int = 300) -> None:
        """The viewer's voice in packets of 20 ms."""
        pcm = tone(ms) + bytes(48 * quiet_ms)
        for start in range(0, len(pcm), 960):
            await self.agent.hear(pcm[start : start + 960], 24000)


def call(
    talk: Callable[[Call], Awaitable[None]], script: Script | None = None, sink: PacedSink | None = None, **options
) -> Call:
    """Hold a conversation. Fails when anything was sent that the types do not allow."""

    async def main() -> Call:
        async with FakeRealtime(script) as server:
            made = Call(server, sink or PacedSink(), **options)
            async with made.agent:
                await asyncio.wait_for(talk(made), 60)
            assert server.violations == []
            assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("agent-")] == []

            return made

    return asyncio.run(main())
