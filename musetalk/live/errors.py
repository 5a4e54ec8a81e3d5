"""What a live session can refuse. Each message names the thing, the value and the way out."""

from __future__ import annotations

from ..errors import InputError, MuseTalkError


class LiveError(MuseTalkError):
    """Base of every error of a live session that is not a wrong argument."""


class SessionLimitError(LiveError):
    """No room for another session, or another viewer of one."""


class SessionClosedError(LiveError):
    """The session has ended: closed by its owner, by a timeout, or by shutdown."""


class UnknownSessionError(LiveError, KeyError):
    """No session has this id (any more)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class TooMuchAudioError(InputError):
    """More sound was pushed than a session keeps ahead of what is played."""
