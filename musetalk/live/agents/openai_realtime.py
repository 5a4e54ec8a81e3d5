"""A voice agent on an OpenAI-Realtime-compatible server: the viewer's voice up, the answer down into the avatar."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, NamedTuple

import numpy as np

from ...errors import InputError, MuseTalkError
from ..errors import SessionClosedError
from ..resampling import StreamResampler
from . import realtime_events as protocol
from .backoff import Backoff
from .base import AgentAdapter, AgentError, AgentEvent, AgentRefusedError, AvatarSink, Listener
from .realtime_connection import RealtimeConnection, error_of
from .realtime_events import Event, RealtimeConfig
from .speaker import Speaker

logger = logging.getLogger(__name__)

MALFORMED_LIMIT = 50
STABLE_S = 30.0
CANCEL_S = 3.0
_APPEND_BYTES = 1 << 20
_SILENCED = 128
_NOTHING_TO_CANCEL = "response_cancel_not_active"


class _Part(NamedTuple):
    """A spoken part of an item of one connection's conversation."""

    connection: int
    item: str
    content_index: int


class OpenAIRealtime(AgentAdapter):
    """A conversation over WebSocket that outlives its connections.

    The server's speech arrives faster than it is played. When the viewer interrupts, the avatar falls silent and the
    server is told to the millisecond how much of each answer was heard (``conversation.item.truncate``), as the sink
    counts it. A lost connection is made anew with ``backoff``; the server then starts without the conversation so far.
    """

    def __init__(
        self, config: RealtimeConfig, sink: AvatarSink, listener: Listener | None = None, backoff: Backoff | None = None
    ) -> None:
        super().__init__(sink, listener)
        self._config = config
        self._backoff = backoff or Backoff()
        self._speaker = Speaker(sink, config.output_rate, self._sink_refused)
        self._connection: RealtimeConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._number = itertools.count()
        self._current = -1
        self._active: str | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._silenced: deque[str] = deque(maxlen=_SILENCED)
        self._resampler: StreamResampler | None = None
        self._heard_any = False
        self._ended = ""

    async def start(self) -> None:
        if self._task is not None:
            raise InputError("this conversation has been started already; make another OpenAIRealtime")
        connection = await RealtimeConnection.open(self._config)
        self._begin(connection)
        self._task = asyncio.get_running_loop().create_task(self._run(connection), name="agent-realtime")

    async def hear(self, pcm: bytes, rate: int) -> None:
        connection = self._connection
        if connection is None:
            return
        sound = self._at_protocol_rate(pcm, rate)
        await self._append(connection, sound)

    async def finish_turn(self) -> None:
        connection = self._connection
        if self._config.turn_detection is not None or connection is None:
            return
        await self._make_room()
        if self._resampler is not None:
            await self._append(connection, _to_pcm(self._resampler.flush()))
        if self._heard_any:
            self._heard_any = False
            await connection.send(protocol.commit_audio())
            await connection.send(protocol.create_response())

    async def send_text(self, text: str) -> None:
        connection = self._connection
        if connection is None:
            raise AgentError("the agent is not connected at the moment; send the text again when it is")
        await self._make_room()
        await connection.send(protocol.user_message(text))
        await connection.send(protocol.create_response())

    async def interrupt(self) -> None:
        if self._active is not None and self._active not in self._silenced:
            await self._send(protocol.cancel_response(self._active))
        await self._hush()

    async def close(self) -> None:
        self._ended = self._ended or "closed"
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._connection is not None:  # the task was cancelled before its first step
            await self._connection.close()
            self._connection = None
        await self._speaker.close()

    async def _run(self, connection: RealtimeConnection | None) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        try:
            while connection is not None and not self._ended:
                opened = loop.time()
                await self._converse(connection)
                if loop.time() - opened > STABLE_S:
                    attempt = 0
                connection = None
                while connection is None and not self._ended:
                    if attempt >= self._backoff.attempts:
                        self._ended = f"the agent was lost, and not found again in {attempt} attempts"
                        break
                    self._tell(AgentEvent("reconnecting"))
                    await asyncio.sleep(self._backoff.delay(attempt))
                    attempt += 1
                    connection = await self._reopen()
                    if connection is not None:
                        self._begin(connection)
        except Exception:
            logger.exception("the conversation with the agent failed")
            self._ended = "it failed; the log has the reason"
        finally:
            if connection is not None:
                await connection.close()
            self._tell(AgentEvent("closed", self._ended))

    async def _reopen(self) -> RealtimeConnection | None:
        try:
            return await RealtimeConnection.open(self._config)
        except AgentRefusedError as error:
            self._ended = str(error)
        except AgentError as error:
            logger.warning("%s", error)
        return None

    def _begin(self, connection: RealtimeConnection) -> None:
        """From now on this is the connection: it can be spoken to."""
        self._current = next(self._number)
        self._connection = connection
        self._speaker.rate = self._config.output_rate
        self._resampler = None
        self._heard_any = False

    async def _converse(self, connection: RealtimeConnection) -> None:
        """Everything from the announced session to the end of the connection."""
        malformed = 0
        try:
            self._tell(AgentEvent("connected"))
            async for message in connection:
                try:
                    await self._take(protocol.read_event(message))
                    malformed = 0
                except AgentRefusedError as error:
                    self._ended = str(error)
                except MuseTalkError as error:
                    self._problem(error)
                    malformed += 1
                if self._ended or malformed >= MALFORMED_LIMIT:
                    break
        finally:
            self._connection = None
            self._active = None
            self._free.set()
            self._speaker.finish_all()
            await connection.close()

    async def _take(self, event: Event) -> None:
        handler = self._HANDLERS.get(event["type"])
        if handler is not None:
            await handler(self, event)

    async def _session_updated(self, event: Event) -> None:
        rate = protocol.output_rate_of(protocol.table_of(event, "session"))
        self._speaker.rate = rate or self._config.output_rate

    async def _user_started(self, _: Event) -> None:
        self._tell(AgentEvent("user_started"))
        if self._config.interrupts:
            await self._hush()

    async def _user_stopped(self, _: Event) -> None:
        self._tell(AgentEvent("user_stopped"))

    async def _idle(self, _: Event) -> None:
        self._tell(AgentEvent("idle"))

    async def _user_text(self, event: Event) -> None:
        self._tell(AgentEvent("user_text", protocol.text_of(event, "transcript")))

    async def _response_created(self, event: Event) -> None:
        self._active = protocol.text_of(protocol.table_of(event, "response"), "id")
        self._free.clear()
        self._tell(AgentEvent("avatar_started"))

    async def _audio(self, event: Event) -> None:
        if not self._is_silenced(event):
            self._speaker.say(self._part(event), protocol.audio_of(event))

    async def _audio_done(self, event: Event) -> None:
        self._speaker.finish(self._part(event))

    async def _avatar_text(self, event: Event) -> None:
        if not self._is_silenced(event):
            final = event["type"].endswith(".done")
            self._tell(AgentEvent("avatar_text", protocol.text_of(event, "transcript" if final else "delta"), final))

    async def _response_done(self, event: Event) -> None:
        response = protocol.table_of(event, "response")
        if protocol.text_of(response, "id") != (self._active or ""):
            return
        self._active = None
        self._free.set()
        self._speaker.finish_all()
        self._tell(AgentEvent("avatar_done"))
        if response.get("status") == "failed":
            details = protocol.table_of(response, "status_details")
            raise error_of({"type": "response.done", "error": details.get("error")}, self._config.endpoint)

    async def _error(self, event: Event) -> None:
        error = error_of(event, self._config.endpoint)
        if error.code != _NOTHING_TO_CANCEL:  # the answer ended while the request to cancel it was on its way
            raise error

    _HANDLERS: ClassVar[dict[str, Callable[[OpenAIRealtime, Event], Awaitable[None]]]] = {
        "session.updated": _session_updated,
        "input_audio_buffer.speech_started": _user_started,
        "input_audio_buffer.speech_stopped": _user_stopped,
        "input_audio_buffer.timeout_triggered": _idle,
        "conversation.item.input_audio_transcription.completed": _user_text,
        "response.created": _response_created,
        "response.output_audio.delta": _audio,
        "response.output_audio.done": _audio_done,
        "response.output_audio_transcript.delta": _avatar_text,
        "response.output_audio_transcript.done": _avatar_text,
        "response.done": _response_done,
        "error": _error,
    }

    def _part(self, event: Event) -> _Part:
        index = event.get("content_index", 0)
        if not isinstance(index, int) or index < 0:
            raise AgentError(f"the agent's {event['type']} has {str(index)[:40]!r} as content_index")
        return _Part(self._current, protocol.text_of(event, "item_id"), index)

    def _is_silenced(self, event: Event) -> bool:
        """Whether an event belongs to an answer that was cut off; the server may have sent it before it knew."""
        names = (protocol.text_of(event, "response_id"), protocol.text_of(event, "item_id"))
        return any(name in self._silenced for name in names if name)

    async def _hush(self) -> None:
        """Silence, and the exact truth about it to the server."""
        if self._active:
            self._silenced.append(self._active)
        cuts = await self._speaker.stop()
        for cut in cuts:
            assert isinstance(cut.utterance, _Part)
            self._silenced.append(cut.utterance.item)
            if cut.utterance.connection == self._current and cut.utterance.item:
                part = cut.utterance
                await self._send(protocol.truncate_item(part.item, part.content_index, cut.heard_ms))
        if cuts:
            self._tell(AgentEvent("interrupted", heard_ms=cuts[0].heard_ms))

    async def _make_room(self) -> None:
        """End an answer under way: a server takes one response at a time."""
        await self.interrupt()
        try:
            await asyncio.wait_for(self._free.wait(), CANCEL_S)
        except asyncio.TimeoutError:
            logger.warning("the agent did not end its answer within %g s of being asked to", CANCEL_S)

    async def _send(self, event: Event) -> None:
        if self._connection is not None:
            await self._connection.send(event)

    async def _append(self, connection: RealtimeConnection, pcm: bytes) -> None:
        for start in range(0, len(pcm), _APPEND_BYTES):
            self._heard_any = True
            await connection.send(protocol.append_audio(pcm[start : start + _APPEND_BYTES]))

    def _at_protocol_rate(self, pcm: bytes, rate: int) -> bytes:
        if len(pcm) % 2:
            raise InputError(f"{len(pcm)} bytes of 16 bit sound: the number must be even")
        if self._resampler is None or self._resampler.rate_in != rate:
            self._resampler = StreamResampler(rate, protocol.PCM_RATE)
        return _to_pcm(self._resampler.push(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768))

    def _problem(self, error: MuseTalkError) -> None:
        code = error.code if isinstance(error, AgentError) else type(error).__name__
        text = self._config.endpoint.redact(str(error))
        logger.warning("%s", text)
        self._tell(AgentEvent("error", text, code=code))

    def _sink_refused(self, error: MuseTalkError) -> None:
        self._problem(error)
        if isinstance(error, SessionClosedError):
            self._ended = "the avatar's session has ended"
            if self._task is not None:
                self._task.cancel()


def _to_pcm(samples: np.ndarray) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
