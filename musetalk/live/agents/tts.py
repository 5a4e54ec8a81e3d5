"""Text read out by the avatar, through any OpenAI-compatible speech endpoint."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ... import extras
from ...errors import InputError, MuseTalkError
from .backoff import Backoff
from .base import AgentAdapter, AgentError, AgentEvent, AgentRefusedError, AvatarSink, Listener
from .endpoint import Endpoint
from .one_task import OneTask
from .realtime_connection import open_http, refusal
from .realtime_events import PCM_RATE
from .speaker import Cut, Speaker

logger = logging.getLogger(__name__)

TEXT_LIMIT = 4096
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])|\n+")
_CHUNK = 9600
_ERROR_BYTES = 4096


@dataclass(frozen=True)
class SpeechConfig:
    """A speech endpoint (``POST audio/speech``).

    rate: Hz of its ``pcm`` format; OpenAI's is 24,000. queue: texts that may wait. stall_s: the longest silence of the
    server in the middle of an answer.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    model: str = "gpt-4o-mini-tts"
    voice: str = "alloy"
    instructions: str = ""
    speed: float = 1.0
    rate: int = PCM_RATE
    queue: int = 32
    stall_s: float = 20.0

    def __post_init__(self) -> None:
        if not 0.25 <= self.speed <= 4.0:
            raise InputError(f"speech speed {self.speed}: give 0.25..4")
        if self.queue < 1:
            raise InputError(f"a queue of {self.queue} texts: give 1 or more")
        if not 8000 <= self.rate <= 96000:
            raise InputError(f"speech at {self.rate} Hz: give 8000..96000")

    def request(self, text: str) -> dict[str, Any]:
        """The JSON body for one text."""
        body: dict[str, Any] = {"model": self.model, "voice": self.voice, "input": text, "response_format": "pcm"}
        if self.instructions:
            body["instructions"] = self.instructions
        if self.speed != 1.0:
            body["speed"] = self.speed
        return body


def split_text(text: str, limit: int = TEXT_LIMIT) -> list[str]:
    """Sentences of at most ``limit`` characters: speech begins after the first. No word is divided that need not be."""
    parts = []
    for sentence in _SENTENCE.split(text):
        sentence = sentence.strip()
        while len(sentence) > limit:
            end = sentence.rfind(" ", 1, limit + 1)
            end = end if end > 0 else limit
            parts.append(sentence[:end].rstrip())
            sentence = sentence[end:].lstrip()
        if sentence:
            parts.append(sentence)
    return parts


class OpenAISpeech(AgentAdapter):
    """Reads out what it is given, one text after the other; each text is one utterance. It does not listen.

    Silence, whoever asked for it, ends the text that is being read, and those that wait. One task reads, and what makes
    way for another is done without waiting, so calls at the same time leave one of it.
    """

    def __init__(
        self, config: SpeechConfig, sink: AvatarSink, listener: Listener | None = None, backoff: Backoff | None = None
    ) -> None:
        super().__init__(sink, listener)
        self._config = config
        self._backoff = backoff or Backoff(attempts=3)
        self._speaker = Speaker(sink, config.rate, self._problem, self._cut_off)
        self._texts: asyncio.Queue[str] = asyncio.Queue(config.queue)
        self._number = itertools.count()
        self._http: Any = None
        self._reading = OneTask("agent-speech")

    async def start(self) -> None:
        if self._http is not None or self._ended:
            raise InputError("this speech engine has been started already; make another OpenAISpeech")
        self._http = open_http(extras.require("aiohttp", "live"))
        self._reading.begin(self._read_out())
        self._tell(AgentEvent("connected"))

    async def hear(self, pcm: bytes, rate: int) -> None:
        """Does nothing: a speech engine has no ears."""

    async def finish_turn(self) -> None:
        """Does nothing: there are no turns."""

    async def send_text(self, text: str) -> None:
        """Read ``text`` out instead of what is being said. Raises InputError when there is nothing to say in it."""
        await self.interrupt()
        self.append_text(text)

    def append_text(self, text: str) -> None:
        """Read ``text`` out after what is being said. Raises InputError for no text, AgentError when many wait."""
        if not text.strip():
            raise InputError("there is no text to say; give at least one word")
        if self._ended:
            raise self._gone()
        if self._http is None:
            raise AgentError("the speech engine has not been started; start it first")
        try:
            self._texts.put_nowait(text)
        except asyncio.QueueFull:
            raise AgentError(f"{self._config.queue} texts are waiting to be said; send this one later") from None

    async def interrupt(self) -> None:
        self._cut_off(self._speaker.stop())

    async def close(self) -> None:
        self._ended = "closed"
        http, self._http = self._http, None
        self._reading.halt()
        await self._speaker.close()
        await self._reading.close()
        if http is not None:
            await http.close()
            self._tell(AgentEvent("closed", self._ended))

    def _cut_off(self, cuts: list[Cut]) -> None:
        """After silence: what was to be said is forgotten."""
        self._reading.halt()
        while not self._texts.empty():
            self._texts.get_nowait()
        if self._http is not None:
            self._reading.begin(self._read_out())
        if cuts:
            self._tell(AgentEvent("interrupted", heard_ms=cuts[0].heard_ms))

    async def _read_out(self) -> None:
        while True:
            text = await self._texts.get()
            utterance = next(self._number)
            self._tell(AgentEvent("avatar_started"))
            self._tell(AgentEvent("avatar_text", text))
            try:
                for part in split_text(text):
                    async for pcm in self._synthesized(part):
                        self._speaker.say(utterance, pcm)
            except MuseTalkError as error:
                self._problem(error)
            self._speaker.finish(utterance)
            self._tell(AgentEvent("avatar_done"))

    async def _synthesized(self, text: str) -> AsyncIterator[bytes]:
        """The speech of one sentence, as it arrives; asked for again only while none of it has."""
        for attempt in itertools.count():
            begun = False
            try:
                async for pcm in self._requested(text):
                    begun = True
                    yield pcm
                return
            except AgentRefusedError:
                raise
            except AgentError as error:
                if begun or attempt >= self._backoff.attempts:
                    raise
                logger.warning("%s: %s", self._config.endpoint.base_url, error)
            await asyncio.sleep(self._backoff.delay(attempt))

    async def _requested(self, text: str) -> AsyncIterator[bytes]:
        aiohttp = extras.require("aiohttp", "live")
        endpoint = self._config.endpoint
        timeout = aiohttp.ClientTimeout(total=None, connect=15, sock_read=self._config.stall_s)
        try:
            async with self._http.post(
                endpoint.url("audio/speech"),
                json=self._config.request(text),
                headers=endpoint.request_headers(),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    reason = (await response.content.read(_ERROR_BYTES)).decode("utf-8", errors="replace")
                    text = f"the speech endpoint made no speech (HTTP {response.status}): {reason[:300]}"
                    raise refusal(response.status, endpoint.redact(text))
                first = True
                async for chunk in response.content.iter_chunked(_CHUNK):
                    if first and (chunk[:4] in (b"RIFF", b"OggS", b"fLaC") or chunk[:3] == b"ID3"):
                        raise AgentRefusedError(
                            "the speech endpoint sent a sound file where raw PCM was asked for "
                            "(response_format pcm); use a speech server that supports it"
                        )
                    first = False
                    yield chunk
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            logger.warning("cannot reach %s: %s", endpoint.base_url, endpoint.redact(str(error)))
            raise AgentError(f"cannot reach the speech endpoint ({type(error).__name__}); try again later") from None

    def _problem(self, error: MuseTalkError) -> None:
        text = self._config.endpoint.redact(str(error))
        logger.warning("%s: %s", self._config.endpoint.base_url, text)
        code = error.code if isinstance(error, AgentError) else type(error).__name__
        self._tell(AgentEvent("error", text, code=code))
