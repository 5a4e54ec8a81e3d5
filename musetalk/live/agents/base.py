"""What a voice agent and an avatar are to each other: two small interfaces, and what the viewer is told."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeAlias

from ..errors import LiveError
from ..timeline import Played

logger = logging.getLogger(__name__)

EventKind: TypeAlias = Literal[
    "connected",  # the agent can be spoken to
    "reconnecting",  # the connection was lost; it is being made anew, without the conversation so far
    "closed",  # the agent is gone for good; `text` says why
    "user_started",  # the viewer began to speak
    "user_stopped",
    "user_text",  # what the viewer said
    "idle",  # the viewer has been silent for as long as the agent waits
    "avatar_started",  # an answer begins
    "avatar_text",  # what the avatar says: pieces, then the whole with `final`
    "avatar_done",  # all of the answer has arrived; it is still being spoken
    "interrupted",  # the answer was cut off after `heard_ms`
    "error",  # something went wrong and the conversation goes on
]


@dataclass(frozen=True)
class AgentEvent:
    """News of a conversation, fit for a viewer: no key and no header is ever in it.

    text: a transcript, or a reason. final: False for a piece of a transcript that goes on. code: a word for programs,
    of an error. heard_ms: how much of the answer was played when it was cut off.
    """

    kind: EventKind
    text: str = ""
    final: bool = True
    code: str = ""
    heard_ms: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON values."""
        return asdict(self)


Listener: TypeAlias = Callable[[AgentEvent], None]
"""Called in the event loop for each event; must return at once."""


class AgentError(LiveError):
    """An agent that cannot be reached, or does not speak the protocol. ``code``: the server's word for it, if any."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class AgentRefusedError(AgentError):
    """An agent that will say no again: a wrong key, an unknown model, no credit. Trying again is of no use."""


class AvatarSink(Protocol):
    """What an agent makes speak. A live session is one. Sinks are told apart by hash, and weakly referenced."""

    async def push_pcm(self, pcm: bytes, rate: int) -> int:
        """Append speech: mono, signed 16 bit little endian, at ``rate`` Hz. Waits while the avatar has enough ahead.

        Returns the id of the segment that the sound went to, -1 when a ``clear`` dropped it meanwhile; ids go up. None
        of it is taken when the wait is cancelled. Raises TooMuchAudioError or SessionClosedError.
        """

    def end_of_segment(self) -> None:
        """The utterance is complete: the next sound begins another segment."""

    def clear(self) -> Played:
        """Forget all speech that has not been played.

        Returns how far it got: ``segment`` is the one being spoken, else the last one, spoken in full or cut before,
        else -1. Segments that had not begun come after it.
        """


class AgentAdapter(ABC):
    """A conversation partner behind the avatar. Its methods are called from one event loop; ``close`` ends all of it.

    ``async with adapter:`` starts and closes it. Several of one sink speak one after the other, and what silences one
    of them silences all.
    """

    _ended = ""

    def __init__(self, sink: AvatarSink, listener: Listener | None = None) -> None:
        self._sink = sink
        self._listener = listener

    @property
    def closed(self) -> bool:
        """Whether it is gone for good, as the event ``closed`` tells: whoever wants an answer makes another."""
        return bool(self._ended)

    @abstractmethod
    async def start(self) -> None:
        """Connect, and from then on speak through the sink. Once.

        Raises AgentError when that is not possible; the adapter is ``closed`` then.
        """

    @abstractmethod
    async def hear(self, pcm: bytes, rate: int) -> None:
        """The viewer's microphone: mono, signed 16 bit little endian. Sound is lost while there is no connection."""

    @abstractmethod
    async def finish_turn(self) -> None:
        """The viewer has said what there is to say: an agent answers, which cuts off an answer under way.

        Does nothing where nothing was said. Raises InputError where the agent hears itself when speech has ended,
        AgentError as `send_text`.
        """

    @abstractmethod
    async def send_text(self, text: str) -> None:
        """What the viewer typed: an agent answers it, a speech engine reads it out. Cuts off an answer under way.

        Raises AgentError while there is no connection; its ``code`` is ``closed`` when there will never be one.
        """

    @abstractmethod
    async def interrupt(self) -> None:
        """Stop speaking now: the avatar is silent before anybody is told. Does nothing when nothing is being said."""

    @abstractmethod
    async def close(self) -> None:
        """End the conversation and free all of it. May be called again."""

    def _gone(self) -> AgentError:
        return AgentError(f"the conversation is over: {self._ended}; begin another", "closed")

    def _tell(self, event: AgentEvent) -> None:
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:  # the conversation goes on, whatever is wrong with who listens
            logger.exception("the listener of a voice agent failed at %r", event.kind)

    async def __aenter__(self) -> AgentAdapter:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
