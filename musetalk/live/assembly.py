"""A live server's parts, put together: worker, store, sessions and service, from models and a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .generator import ModelGenerator
from .manager import SessionManager
from .security import SecurityPolicy
from .service import AgentFactory, AgentRole, LiveService, ServerLimits
from .store import AvatarStore, StoreLimits
from .timeline import FPS, SessionLimits
from .tuned_streams import TunedStreams
from .webrtc import MediaSettings
from .worker import Worker

if TYPE_CHECKING:
    import torch

    from ..models import Models
    from .live_avatar import LiveAvatar


def build_service(
    models: Models | Callable[[], Models],
    avatars: Path,
    *,
    policy: SecurityPolicy | None = None,
    device: torch.device | None = None,
    at_hand: Callable[[], bool] = lambda: True,
    fps: Fraction = FPS,
    session_limits: SessionLimits | None = None,
    store_limits: StoreLimits | None = None,
    media: MediaSettings | None = None,
    agents: Mapping[AgentRole, AgentFactory] | None = None,
    recordings: Path | None = None,
) -> LiveService:
    """A service ready for :func:`musetalk.live.server.add_routes`; closing it ends its worker too.

    models: the networks, or a function that brings them to their device, which is not called before it must be.
    device: where that function brings them, None for a GPU. at_hand: whether it would do so without waiting. avatars:
    the folder of avatars, made if absent. The rest as in :class:`LiveService` and the classes of the limits.
    Networks are tried, so that sessions ask of this machine what it can do (see :class:`TunedStreams`).
    """
    session_limits = session_limits or SessionLimits()
    store_limits = store_limits or StoreLimits()
    worker = Worker(ModelGenerator(models, device=device), session_limits.sessions)
    streams = TunedStreams(models, fps, lambda: worker.sessions, device)
    store = AvatarStore(avatars, models, worker, limits=store_limits, at_hand=at_hand)
    worker.start()
    return LiveService(
        SessionManager(worker, _SessionAvatars(store, streams), streams.make, session_limits, fps=fps),
        store,
        policy,
        limits=ServerLimits(
            upload_bytes=store_limits.upload.max_bytes, viewers=session_limits.sessions * session_limits.viewers
        ),
        media=media,
        agents=agents,
        recordings=recordings,
        worker=worker,
    )


class _SessionAvatars:
    """A store for sessions: who opens an avatar begins one."""

    def __init__(self, store: AvatarStore, streams: TunedStreams) -> None:
        self._store = store
        self._streams = streams

    def open(self, name: str) -> LiveAvatar:
        self._streams.session_begins()
        return self._store.open(name)
