"""A voice agent on an OpenAI-Realtime-compatible server: the viewer's voice up, the answer down into the avatar."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, NamedTuple

from ...errors import InputError, MuseTalkError
from ..errors import SessionClosedError
from . import realtime_events as protocol
from .backoff import Backoff
from .base import AgentAdapter, AgentError, AgentEvent, AgentRefusedError, AvatarSink, Listener
from .microphone import Microphone
from .realtime_connection import RealtimeConnection, error_of
from .realtime_events import Event, RealtimeConfig
from .speaker import Cut, Speaker

logger = logging.getLogger(__name__)

MALFORMED_LIMIT = 50
STABLE_S = 30.0
CANCEL_S = 3.0
_APPEND_BYTES = 1 << 20
_SILENCED = 128
_NOTHING_TO_CANCEL = "response_cancel_not_active"
# Where a piece of what is said stands, and whether it is the whole. Text alone is of an answer without sound.
_TEXT_FIELDS = {
    "response.output_audio_transcript.delta": ("delta", False),
    "response.output_audio_transcript.done": ("transcript", True),
    "response.output_text.delta": ("delta", False),
    "response.output_text.done": ("text", True),
}


class _Part(NamedTuple):
    """A spoken part of an item of one connection's conversation."""

    connection: int
    item: str
    content_index: int


class OpenAIRealtime(AgentAdapter):
    """A conversation over WebSocket that outlives its connections.

    The server's speech arrives faster than it is played. When the viewer interrupts, the avatar falls silent and the
    server is told to the millisecond how much of each answer was heard (``conversation.item.truncate``), as the sink
    counts it: silence comes first, and waits for no server. A server takes one response at a time, so turns by text or
    by hand wait for one another. A lost connection is made anew with ``backoff``; the server then starts without the
    conversation so far.
    """

    def __init__(
        self, config: RealtimeConfig, sink: AvatarSink, listener: Listener | None = None, backoff: Backoff | None = None
    ) -> None:
        super().__init__(sink, listener)
        self._config = config
        self._backoff = backoff or Backoff()
        self._speaker = Speaker(sink, config.output_rate, self._sink_refused, self._cut_by_another)
        self._connection: RealtimeConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._number = itertools.count()
        self._current = -1
        self._turn = asyncio.Lock()
        self._asked = ""  # the event that asked for a response which has not begun yet
        self._unwanted = False  # that response was cut off before it began
        self._active: str | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._silenced: deque[str] = deque(maxlen=_SILENCED)
        self._microphone = Microphone(protocol.PCM_RATE)
        self._heard_any = False
        self._started = False
        self._reports: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if self._started:
            raise InputError("this conversation has been started already; make another OpenAIRealtime")
        self._started = True
        try:
            connection = await RealtimeConnection.open(self._config)
        except BaseException as error:
            self._ended = str(error) or "it was not begun"
            raise
        if self._ended:  # closed while it was connecting
            await connection.close()
            raise self._gone()
        self._begin(connection)
        self._task = asyncio.get_running_loop().create_task(self._run(connection), name="agent-realtime")

    async def hear(self, pcm: bytes, rate: int) -> None:
        connection = self._connection
        if connection is None:
            return
        await self._append(connection, self._microphone.take(pcm, rate))

    async def finish_turn(self) -> None:
        if self._config.turn_detection is not None:
            raise InputError(
                f"this agent hears itself when a turn is over ({self._config.turn_detection['type']}); "
                "set it to manual turns to end them by hand"
            )
        async with self._turn:
            connection = self._require_connection()
            if not self._heard_any:
                return
            await self._make_room()
            if connection is not self._require_connection():
                raise AgentError("the connection was lost meanwhile, and what was said with it; say it again")
            await self._append(connection, self._microphone.rest())
            self._heard_any = False
            await connection.send(protocol.commit_audio())
            await self._ask(connection)

    async def send_text(self, text: str) -> None:
        async with self._turn:
            connection = self._require_connection()
            await self._make_room()
            if connection is not self._require_connection():
                raise AgentError("the connection was lost meanwhile; send the text again")
            await connection.send(protocol.user_message(text))
            await self._ask(connection)

    async def interrupt(self) -> None:
        await self._send_all(self._cut_off(self._speaker.stop()))

    async def close(self) -> None:
        self._ended = self._ended or "closed"
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:  # the task was cancelled before its first step
            await connection.close()
        await self._speaker.close()
        for report in self._reports:
            report.cancel()
        await asyncio.gather(*self._reports, return_exceptions=True)

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
            logger.warning("%s: %s", self._config.endpoint.base_url, error)
        return None

    def _begin(self, connection: RealtimeConnection) -> None:
        """From now on this is the connection: it can be spoken to."""
        self._current = next(self._number)
        self._connection = connection
        self._speaker.rate = self._config.output_rate
        self._microphone = Microphone(protocol.PCM_RATE)
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
            self._no_response()
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
        if not self._config.interrupts:
            self._tell(AgentEvent("user_started"))
            return
        cuts = self._speaker.stop()
        self._tell(AgentEvent("user_started"))
        await self._send_all(self._cut_off(cuts, cancel=False))  # the server has ended its answer itself

    async def _user_stopped(self, _: Event) -> None:
        self._tell(AgentEvent("user_stopped"))

    async def _idle(self, _: Event) -> None:
        self._tell(AgentEvent("idle"))

    async def _user_text(self, event: Event) -> None:
        self._tell(AgentEvent("user_text", protocol.text_of(event, "transcript")))

    async def _response_created(self, event: Event) -> None:
        self._active = protocol.text_of(protocol.table_of(event, "response"), "id")
        self._free.clear()
        if self._unwanted:
            self._silenced.append(self._active)
        else:
            self._tell(AgentEvent("avatar_started"))
        self._asked, self._unwanted = "", False

    async def _audio(self, event: Event) -> None:
        if not self._is_silenced(event):
            self._speaker.say(self._part(event), protocol.audio_of(event))

    async def _audio_done(self, event: Event) -> None:
        self._speaker.finish(self._part(event))

    async def _avatar_text(self, event: Event) -> None:
        if not self._is_silenced(event):
            field, final = _TEXT_FIELDS[event["type"]]
            self._tell(AgentEvent("avatar_text", protocol.text_of(event, field), final))

    async def _response_done(self, event: Event) -> None:
        response = protocol.table_of(event, "response")
        never_began = self._active is None and bool(self._asked)
        if not never_began and protocol.text_of(response, "id") != (self._active or ""):
            return
        self._no_response()
        self._speaker.finish_all()
        self._tell(AgentEvent("avatar_done"))
        if response.get("status") == "failed":
            details = protocol.table_of(response, "status_details")
            raise error_of({"type": "response.done", "error": details.get("error")}, self._config.endpoint)

    async def _error(self, event: Event) -> None:
        error = error_of(event, self._config.endpoint)
        if self._asked and protocol.table_of(event, "error").get("event_id") == self._asked:
            self._asked, self._unwanted = "", False
            if self._active is None:
                self._free.set()
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
        "response.output_text.delta": _avatar_text,
        "response.output_text.done": _avatar_text,
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

    def _cut_off(self, cuts: list[Cut], *, cancel: bool = True) -> list[Event]:
        """After silence: tells the viewer, and returns the exact truth about it for the server.

        cancel: end the response under way as well, where the server does not do so by itself.
        """
        events = []
        if cancel and self._asked and not self._unwanted:
            self._unwanted = True
            events.append(protocol.cancel_response(""))
        if self._active is not None and self._active not in self._silenced:
            if cancel:
                events.append(protocol.cancel_response(self._active))
            if self._active:
                self._silenced.append(self._active)
        for cut in cuts:
            assert isinstance(cut.utterance, _Part)
            part = cut.utterance
            self._silenced.append(part.item)
            if part.connection == self._current and part.item:
                events.append(protocol.truncate_item(part.item, part.content_index, cut.heard_ms))
        if cuts:
            self._tell(AgentEvent("interrupted", heard_ms=cuts[0].heard_ms))
        return events

    def _cut_by_another(self, cuts: list[Cut]) -> None:
        events = self._cut_off(cuts)
        if events and self._connection is not None:
            task = asyncio.get_running_loop().create_task(self._send_all(events), name="agent-report")
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def _make_room(self) -> None:
        """End an answer under way: a server takes one response at a time."""
        await self.interrupt()
        try:
            await asyncio.wait_for(self._free.wait(), CANCEL_S)
        except asyncio.TimeoutError:
            logger.warning("the agent did not end its answer within %g s of being asked to", CANCEL_S)
            self._asked, self._unwanted = "", False

    async def _ask(self, connection: RealtimeConnection) -> None:
        """Ask for a response. Until it is over there is no room for another."""
        self._free.clear()
        self._asked = await connection.send(protocol.create_response())

    def _no_response(self) -> None:
        self._active, self._asked, self._unwanted = None, "", False
        self._free.set()

    def _require_connection(self) -> RealtimeConnection:
        if self._connection is not None:
            return self._connection
        if self._ended:
            raise self._gone()
        raise AgentError("the voice agent is not connected at the moment; try again when it is")

    async def _send_all(self, events: list[Event]) -> None:
        connection = self._connection
        for event in events:
            if connection is not None:
                await connection.send(event)

    async def _append(self, connection: RealtimeConnection, pcm: bytes) -> None:
        for start in range(0, len(pcm), _APPEND_BYTES):
            self._heard_any = True
            await connection.send(protocol.append_audio(pcm[start : start + _APPEND_BYTES]))

    def _problem(self, error: MuseTalkError) -> None:
        code = error.code if isinstance(error, AgentError) else type(error).__name__
        text = self._config.endpoint.redact(str(error))
        logger.warning("%s: %s", self._config.endpoint.base_url, text)
        self._tell(AgentEvent("error", text, code=code))

    def _sink_refused(self, error: MuseTalkError) -> None:
        self._problem(error)
        if isinstance(error, SessionClosedError):
            self._ended = "the avatar's session has ended"
            if self._task is not None:
                self._task.cancel()
