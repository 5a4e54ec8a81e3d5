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
from .streaming import FeatureStream
from .timeline import FPS, SessionLimits
from .tuning import tune
from .webrtc import MediaSettings
from .worker import Worker

if TYPE_CHECKING:
    from ..models import Models


def build_service(
    models: Models | Callable[[], Models],
    avatars: Path,
    *,
    policy: SecurityPolicy | None = None,
    fps: Fraction = FPS,
    session_limits: SessionLimits | None = None,
    store_limits: StoreLimits | None = None,
    media: MediaSettings | None = None,
    agents: Mapping[AgentRole, AgentFactory] | None = None,
    recordings: Path | None = None,
) -> LiveService:
    """A service ready for :func:`musetalk.live.server.add_routes`; closing it ends its worker too.

    models: the networks, or a function that brings them to their device (see :class:`ModelGenerator`); networks that
    are there are tried, so that sessions ask of this machine what it can do. avatars: the folder of avatars, made if
    absent. The rest as in :class:`LiveService` and the classes of the limits.
    """
    session_limits = session_limits or SessionLimits()
    store_limits = store_limits or StoreLimits()
    generator = ModelGenerator(models)
    worker = Worker(generator, session_limits.sessions)
    worker.start()
    store = AvatarStore(avatars, models, worker, limits=store_limits)

    tuning = None if callable(models) else tune(models)

    def make_features() -> FeatureStream:
        if callable(models) or tuning is None:
            return FeatureStream(models() if callable(models) else models, fps)
        return tuning.stream(models, fps, worker.sessions)

    return LiveService(
        SessionManager(worker, store, make_features, session_limits, fps=fps),
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
