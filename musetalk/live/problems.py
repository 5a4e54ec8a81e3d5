"""How each error of the package is told over HTTP."""

from __future__ import annotations

from ..errors import AvatarError, InputError, MuseTalkError, NoFaceError
from .agents.base import AgentError
from .cache import CacheFullError, InUseError
from .errors import SessionClosedError, SessionLimitError, TooMuchAudioError, UnknownSessionError
from .jobs import TooManyJobsError
from .store import UnknownAvatarError
from .worker import WorkerBusyError, WorkerClosedError

# The first kind that fits counts.
_STATUS: tuple[tuple[type[MuseTalkError], int, str], ...] = (
    (TooMuchAudioError, 429, "too_much_audio"),
    (SessionLimitError, 503, "session_limit_reached"),
    (UnknownSessionError, 404, "unknown_session"),
    (SessionClosedError, 410, "session_closed"),
    (UnknownAvatarError, 404, "unknown_avatar"),
    (InUseError, 409, "in_use"),
    (CacheFullError, 503, "no_room"),
    (TooManyJobsError, 503, "too_many_jobs"),
    (WorkerBusyError, 503, "busy"),
    (WorkerClosedError, 503, "shutting_down"),
    (AgentError, 502, "agent_failed"),
    (NoFaceError, 422, "no_face"),
    (AvatarError, 409, "unusable_avatar"),
    (InputError, 400, "bad_input"),
    (MuseTalkError, 500, "failed"),
)


def status_of(error: MuseTalkError) -> tuple[int, str]:
    """HTTP status, and a word for programs."""
    return next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
