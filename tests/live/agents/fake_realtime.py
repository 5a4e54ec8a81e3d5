"""A voice agent without models that speaks the OpenAI Realtime protocol as the openai SDK's types have it.

It hears by loudness and answers with a tone, faster than real time. Every event in and out is checked against the
types; what a client does wrong is kept in ``violations``. It misbehaves on request.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from pydantic import ValidationError

from .sdk_types import check_client_event, check_server_event

RATE = 24000
BYTES_PER_MS = 2 * RATE // 1000
LOUD = 500.0
Event = dict[str, Any]

BETA_NAMES = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}


def tone(ms: int, hertz: float = 220.0, rate: int = RATE) -> bytes:
    """A tone, signed 16 bit mono."""
    time = np.arange(ms * rate // 1000) / rate
    return (8000 * np.sin(2 * np.pi * hertz * time)).astype("<i2").tobytes()


@dataclass
class Script:
    """How the agent behaves.

    key: what a client must bring. answer_ms, delta_ms: length of an answer and of its pieces. think_s, gap_s: wait
    before an answer, and between two pieces. beta: use the names of the beta. before_answer: raw messages sent before
    the first answer. stop_after: so many pieces of an answer are sent, and no more. drop_after: the first connection is
    cut after so many pieces. refuse: HTTP status of every connection. refuse_later: the same for all connections but
    the first. late_delta: one more piece of an answer is sent after it was cut off.
    """

    key: str = ""
    answer_ms: int = 1000
    delta_ms: int = 200
    think_s: float = 0.0
    gap_s: float = 0.0
    beta: bool = False
    before_answer: list[str | bytes] = field(default_factory=list)
    drop_after: int | None = None
    stop_after: int | None = None
    refuse: int = 0
    refuse_later: int = 0
    late_delta: bool = False


class FakeRealtime:
    """``async with FakeRealtime(script) as server``: listens at ``server.url``, on this machine."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.received: list[Event] = []
        self.sent: list[str] = []
        self.violations: list[str] = []
        self.connections: list[Conversation] = []
        self.url = ""

    async def __aenter__(self) -> FakeRealtime:
        app = web.Application()
        app.router.add_get("/v1/realtime", self._serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for conversation in self.connections:
            conversation.stop()
            conversation.leave()
        await self._runner.cleanup()

    def events(self, kind: str) -> list[Event]:
        """What clients sent of one kind."""
        return [event for event in self.received if event["type"] == kind]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        script = self.script
        status = script.refuse or (script.refuse_later if self.connections else 0)
        if script.key and request.headers.get("Authorization") != f"Bearer {script.key}":
            status = 401
        if status:
            return web.json_response({"error": {"message": "no"}}, status=status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        conversation = Conversation(self, socket)
        self.connections.append(conversation)
        await conversation.run()
        return socket


class Conversation:
    """One connection."""

    def __init__(self, server: FakeRealtime, socket: web.WebSocketResponse) -> None:
        self._server = server
        self._script = server.script
        self._socket = socket
        self._ids = itertools.count(1)
        self._session: Event = {
            "type": "realtime",
            "output_modalities": ["audio"],
            "audio": {"input": {"turn_detection": {"type": "server_vad"}}, "output": {}},
        }
        self._items: dict[str, int] = {}  # milliseconds of sound of each item; -1 for the user's
        self._input = bytearray()
        self._input_ms = 0
        self._loud_ms = self._quiet_ms = 0
        self._speaking = ""
        self._answer: asyncio.Task[None] | None = None
        self._response = ""
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self.send("session.created", session=self._session)
        async for message in self._socket:
            if message.type == WSMsgType.TEXT:
                await self._take(message.data)
        self.stop()

    @property
    def closed(self) -> bool:
        return self._socket.closed

    def stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        for task in list(self._tasks):
            task.cancel()

    def leave(self) -> None:
        """Break off without a goodbye, where the client has not gone."""
        if not self._socket.closed and self._socket._req is not None and self._socket._req.transport is not None:
            self._socket._req.transport.abort()

    async def send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": f"event_{next(self._ids)}", **fields}
        check_server_event(event)
        self._server.sent.append(kind)
        if self._script.beta:
            event["type"] = BETA_NAMES.get(kind, kind)
        await self.send_raw(json.dumps(event))

    async def send_raw(self, message: str | bytes) -> None:
        if not self._socket.closed:
            await (self._socket.send_bytes(message) if isinstance(message, bytes) else self._socket.send_str(message))

    async def say_error(self, code: str, message: str, event: Event) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "event_id": event.get("event_id")}
        await self.send("error", error=error)

    @property
    def _turns(self) -> Mapping[str, Any] | None:
        return self._session["audio"]["input"].get("turn_detection")

    async def _take(self, text: str) -> None:
        event: Event = {}
        try:
            event = json.loads(text)
            check_client_event(event)
        except (ValueError, ValidationError, KeyError) as error:
            self._server.violations.append(str(error))
            await self.say_error("invalid_event", "not an event of a client", {})
            return
        self._server.received.append(event)
        handlers: dict[str, Callable[[Event], Any]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create_item,
            "conversation.item.truncate": self._truncate,
            "response.create": self._create_response,
            "response.cancel": self._cancel,
        }
        await handlers[event["type"]](event)

    async def _update(self, event: Event) -> None:
        for name, value in event["session"].items():
            if name == "audio":
                for side, options in value.items():
                    self._session["audio"].setdefault(side, {}).update(options)
            else:
                self._session[name] = value
        await self.send("session.updated", session=self._session)

    async def _append(self, event: Event) -> None:
        pcm = base64.b64decode(event["audio"], validate=True)
        self._input += pcm
        if self._turns is None:
            return
        for start in range(0, len(pcm), 20 * BYTES_PER_MS):
            await self._listen(pcm[start : start + 20 * BYTES_PER_MS])

    async def _listen(self, pcm: bytes) -> None:
        ms = len(pcm) // BYTES_PER_MS
        self._input_ms += ms
        samples = np.frombuffer(pcm, "<i2").astype(float)
        if samples.size and np.sqrt(np.mean(samples**2)) > LOUD:
            self._loud_ms, self._quiet_ms = self._loud_ms + ms, 0
        else:
            self._loud_ms, self._quiet_ms = 0, self._quiet_ms + ms
        turns = self._turns or {}
        if not self._speaking and self._loud_ms >= 60:
            self._wait_idle(False)
            self._speaking = self._new_id("item")
            start = self._input_ms - self._loud_ms
            await self.send("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self._speaking)
            if turns.get("interrupt_response", True):
                await self._end_answer("turn_detected")
        elif self._speaking and self._quiet_ms >= turns.get("silence_duration_ms", 500):
            item, self._speaking = self._speaking, ""
            await self.send("input_audio_buffer.speech_stopped", audio_end_ms=self._input_ms, item_id=item)
            await self._committed(item)
            if turns.get("create_response", True):
                self._begin_answer()

    async def _commit(self, event: Event) -> None:
        if len(self._input) < 100 * BYTES_PER_MS:
            await self.say_error("input_audio_buffer_commit_empty", "less than 100 ms of sound", event)
            return
        await self._committed(self._new_id("item"))

    async def _committed(self, item: str) -> None:
        self._input.clear()
        self._items[item] = -1
        await self.send("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        content = [{"type": "input_audio", "transcript": None}]
        message = {"id": item, "type": "message", "role": "user", "status": "completed", "content": content}
        await self.send("conversation.item.added", item=message, previous_item_id=None)
        await self.send("conversation.item.done", item=message, previous_item_id=None)

    async def _clear(self, _: Event) -> None:
        self._input.clear()
        await self.send("input_audio_buffer.cleared")

    async def _create_item(self, event: Event) -> None:
        item = {"id": self._new_id("item"), "status": "completed", **event["item"]}
        self._items[item["id"]] = -1
        await self.send("conversation.item.added", item=item, previous_item_id=None)
        await self.send("conversation.item.done", item=item, previous_item_id=None)

    async def _truncate(self, event: Event) -> None:
        item, end = event["item_id"], event["audio_end_ms"]
        length = self._items.get(item, -1)
        if length < 0:
            await self.say_error("item_truncate_invalid_item_id", f"no answer {item}", event)
        elif end > length:
            await self.say_error("invalid_value", f"Audio content of {length}ms is already shorter than {end}ms", event)
        else:
            self._items[item] = end
            fields = {"item_id": item, "content_index": event["content_index"], "audio_end_ms": end}
            await self.send("conversation.item.truncated", **fields)

    async def _create_response(self, event: Event) -> None:
        if self._answer is not None:
            await self.say_error("conversation_already_has_active_response", "one answer at a time", event)
        else:
            self._begin_answer()

    async def _cancel(self, event: Event) -> None:
        if self._answer is None or event.get("response_id", self._response) != self._response:
            await self.say_error("response_cancel_not_active", "Cancellation failed: no active response found", event)
        else:
            await self._end_answer("client_cancelled")

    def _begin_answer(self) -> None:
        self._wait_idle(False)
        self._response = self._new_id("resp")
        self._item = self._new_id("item")
        self._answer = asyncio.get_running_loop().create_task(self._say(self._response, self._item))
        self._tasks.add(self._answer)
        self._answer.add_done_callback(self._tasks.discard)

    async def _end_answer(self, reason: str) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        if self._script.late_delta:
            await self._send_delta(self._response, self._item, tone(self._script.delta_ms))
        details = {"type": "cancelled", "reason": reason}
        await self.send("response.done", response=self._describe("cancelled", details))

    async def _say(self, response: str, item: str) -> None:
        script = self._script
        where = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        message = {"id": item, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self._items[item] = 0
        await asyncio.sleep(script.think_s)
        while script.before_answer:
            await self.send_raw(script.before_answer.pop(0))
        await self.send("response.created", response=self._describe("in_progress"))
        await self.send("response.output_item.added", response_id=response, output_index=0, item=message)
        await self.send("conversation.item.added", item=message, previous_item_id=None)
        await self.send("response.content_part.added", **where, part={"type": "audio", "transcript": ""})
        await self.send("response.output_audio_transcript.delta", **where, delta="la la")
        sound = tone(script.answer_ms)
        step = script.delta_ms * BYTES_PER_MS
        for number, start in enumerate(range(0, len(sound), step)):
            if number == script.drop_after and len(self._server.connections) == 1:
                self.leave()
                return
            if number == script.stop_after:
                await asyncio.Event().wait()
            await self._send_delta(response, item, sound[start : start + step])
            await asyncio.sleep(script.gap_s)
        await self.send("response.output_audio.done", **where)
        await self.send("response.output_audio_transcript.done", **where, transcript="la la la")
        await self.send("response.content_part.done", **where, part={"type": "audio", "transcript": "la la la"})
        message = {**message, "status": "completed"}
        await self.send("response.output_item.done", response_id=response, output_index=0, item=message)
        await self.send("conversation.item.done", item=message, previous_item_id=None)
        self._answer = None
        await self.send("response.done", response=self._describe("completed"))
        await self.send("rate_limits.updated", rate_limits=[])
        self._wait_idle(True)

    async def _send_delta(self, response: str, item: str, pcm: bytes) -> None:
        self._items[item] += len(pcm) // BYTES_PER_MS
        where = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        await self.send("response.output_audio.delta", **where, delta=base64.b64encode(pcm).decode())

    def _wait_idle(self, wait: bool) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        patience = (self._turns or {}).get("idle_timeout_ms")
        if wait and patience:
            self._idle = asyncio.get_running_loop().call_later(patience / 1000, self._lose_patience)

    def _lose_patience(self) -> None:
        task = asyncio.get_running_loop().create_task(self._ask_again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_again(self) -> None:
        item = self._new_id("item")
        fields = {"audio_start_ms": 0, "audio_end_ms": self._input_ms, "item_id": item}
        await self.send("input_audio_buffer.timeout_triggered", **fields)
        await self._committed(item)
        self._begin_answer()

    def _describe(self, status: str, details: Event | None = None) -> Event:
        return {"object": "realtime.response", "id": self._response, "status": status, "status_details": details}

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{len(self._server.connections)}_{next(self._ids)}"
