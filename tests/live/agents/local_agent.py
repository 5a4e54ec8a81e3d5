"""An agent of one's own, as docs/live_agent.md shows it: recognition, a language model and a voice on this machine."""

import itertools

from musetalk.live.agents.base import AgentAdapter, AgentEvent
from musetalk.live.agents.one_task import OneTask
from musetalk.live.agents.speaker import Speaker


class LocalAgent(AgentAdapter):
    """recognise(pcm, rate) -> text and think(text) -> answer are awaited; speak(answer) yields pieces of sound.

    All sound is mono, signed 16 bit little endian; speak's is at 24 kHz. The viewer's ``turn_end`` ends a turn.
    """

    def __init__(self, recognise, think, speak, sink, listener=None):
        super().__init__(sink, listener)
        self._recognise, self._think, self._speak = recognise, think, speak
        self._speaker = Speaker(sink, 24000, self._failed, self._cut_off)
        self._work = OneTask("agent-local")
        self._turns = itertools.count()
        self._heard, self._rate = bytearray(), 24000

    async def start(self):
        self._tell(AgentEvent("connected"))

    async def hear(self, pcm, rate):
        self._rate = rate
        self._heard += pcm
        del self._heard[: -60 * 2 * rate]  # of a microphone that is left on, the last minute

    async def finish_turn(self):
        pcm, self._heard = bytes(self._heard), bytearray()
        if pcm:
            await self.interrupt()
            self._work.begin(self._answer(pcm=pcm, rate=self._rate))

    async def send_text(self, text):
        if self.closed:
            raise self._gone()
        await self.interrupt()
        self._work.begin(self._answer(text=text))

    async def interrupt(self):
        self._cut_off(self._speaker.stop())  # silence comes first

    async def close(self):
        self._ended = "closed"
        await self._work.close()
        await self._speaker.close()

    async def _answer(self, text="", pcm=b"", rate=0):
        turn = next(self._turns)
        try:
            if pcm:
                text = await self._recognise(pcm, rate)
                self._tell(AgentEvent("user_text", text))
            answer = await self._think(text)
            self._tell(AgentEvent("avatar_started"))
            self._tell(AgentEvent("avatar_text", answer))
            async for piece in self._speak(answer):
                self._speaker.say(turn, piece)
        except Exception as error:  # the conversation goes on
            self._failed(error)
        self._speaker.finish(turn)
        self._tell(AgentEvent("avatar_done"))

    def _cut_off(self, cuts):
        """After silence, whoever asked for it: ``cuts`` tells of each answer how much of it was heard."""
        self._work.halt()
        if cuts:
            self._tell(AgentEvent("interrupted", heard_ms=cuts[0].heard_ms))

    def _failed(self, error):
        self._tell(AgentEvent("error", str(error), code=type(error).__name__))
