"""Who speaks through a sink: a voice agent and a speech engine may share one, and their speech is never mixed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from .base import AvatarSink

if TYPE_CHECKING:
    from .speaker import Speaker


class Floor:
    """What the speakers of one sink share.

    turn: held by the speaker whose utterance the sink takes now, to its end. speakers: all of them; silence is for all.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.speakers: WeakSet[Speaker] = WeakSet()


_FLOORS: WeakKeyDictionary[AvatarSink, Floor] = WeakKeyDictionary()


def floor_of(sink: AvatarSink) -> Floor:
    """The floor of a sink, which lives as long as the sink."""
    floor = _FLOORS.get(sink)
    if floor is None:
        floor = _FLOORS[sink] = Floor()
    return floor
