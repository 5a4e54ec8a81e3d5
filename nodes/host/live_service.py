"""The one service of live avatars in a ComfyUI process: made when it is first asked for, ended when it is to go."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import comfy.model_management as mm
from comfy.cli_args import args
from server import PromptServer

from ...musetalk.avatar import Avatar
from ...musetalk.avatar_file import read_description
from ...musetalk.errors import AvatarError, InputError
from .live_networks import LiveNetworks, Networks
from .live_settings import live_folder, read_settings

if TYPE_CHECKING:
    from ...musetalk.live.service import LiveService

PREFIX = "/musetalk/live"
_FPS = Fraction(25)
_NEEDED = ("aiohttp", "aiortc", "prometheus_client")
# Before these one malformed packet could halt ComfyUI, and every frame of sound would leak.
_OLDEST = {"aiortc": (1, 15), "av": (17, 1)}
_AVATARS = "avatars"
_CLOSING_SECONDS = 30
_JOB_POLL_SECONDS = 0.1
_EVERYWHERE = ("0.0.0.0", "::", "")
_CHATTY = "aioice"


def missing_libraries() -> list[str]:
    """The libraries of the extra ``[live]`` that are not installed, or too old; none of them is imported."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    return missing + [name for name, oldest in _OLDEST.items() if name not in missing and _installed(name) < oldest]


def _installed(name: str) -> tuple[int, ...]:
    """The first two numbers of a library's version; of one that tells none, as if it were new enough."""
    try:
        return tuple(int(number) for number in re.findall(r"\d+", version(name))[:2])
    except PackageNotFoundError:
        return _OLDEST[name]


def require_live() -> None:
    """Raises InputError, with the way to get it, where the extra is not installed."""
    missing = missing_libraries()
    if missing:
        raise InputError(
            f"live avatars need the extra [live], of which {', '.join(missing)} is not installed or too old: with "
            "ComfyUI's Python run `python -m pip install 'aiortc>=1.15' 'av>=17.1' prometheus-client`, and start "
            "ComfyUI again"
        )


class LiveHost:
    """Keeps the service, and all it was made of, until somebody closes it; the next to ask gets a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._service: LiveService | None = None
        self._networks: LiveNetworks | None = None
        self._fps = _FPS
        self._published: dict[str, weakref.ref[Avatar]] = {}

    @property
    def current(self) -> LiveService | None:
        """The service if there is one."""
        return self._service

    def service(self) -> LiveService:
        """The service, with ComfyUI's default networks where no graph has given others. Not for an event loop."""
        with self._lock:
            return self._service or self._make(None, self._fps)

    def use(self, networks: Networks, fps: Fraction) -> LiveService:
        """A service of these networks and this frame rate, in the thread in which prompts run.

        One of other networks, or another rate, is closed first, and its sessions end.
        """
        with self._lock:
            live = self._networks
            if self._service is None or live is None or (live.networks, self._fps) != (networks, fps):
                closing = self._take()
                if closing is not None:
                    asyncio.run_coroutine_threadsafe(closing.close(), _loop()).result(_CLOSING_SECONDS)
                self._make(networks, fps)
            service, live = self._service, self._networks
            assert service is not None and live is not None
            live.bring()
            return service

    def publish(self, name: str, avatar: Avatar, progress: Callable[[int, int], None]) -> None:
        """Put a prepared avatar into the store, in the place of another of that name, and make it ready.

        After :meth:`use`, in the same thread. progress(done, total) counts frames; an exception it raises stops the
        work. Raises InputError for a name that cannot be, InUseError while a session shows the other one.
        """
        store = self.service().store
        known = self._published.get(name)
        if not _is_stored(store, name, avatar, None if known is None else known()):
            with suppress(KeyError):
                store.delete(name)
            store.add(name, avatar)
        self._published[name] = weakref.ref(avatar)
        job = store.warm(name)
        try:
            while not job.wait(_JOB_POLL_SECONDS):
                progress(job.done, max(job.total, job.done + 1))
        except BaseException:
            job.cancel()
            raise
        if job.state != "done":
            raise AvatarError(f"the avatar {name} was not made ready: {job.error or job.state}")

    async def close(self) -> None:
        """End all sessions and free everything."""
        closing = await asyncio.to_thread(self._locked_take)
        if closing is not None:
            await closing.close()

    def end(self) -> None:
        """The same from any thread, without waiting."""
        asyncio.run_coroutine_threadsafe(self.close(), _loop())

    def _make(self, networks: Networks | None, fps: Fraction) -> LiveService:
        require_live()
        from ...musetalk.live.assembly import build_service

        # It notes every address it tries, where ComfyUI's log shows what users need.
        logging.getLogger(_CHATTY).setLevel(logging.WARNING)
        settings = read_settings()
        live = LiveNetworks(networks, self.end)
        service = build_service(
            live,
            live_folder() / _AVATARS,
            device=mm.get_torch_device(),
            at_hand=live.at_hand,
            fps=fps,
            policy=settings.policy,
            agents=settings.agents,
        )
        self._service, self._networks, self._fps = service, live, fps
        return service

    def _locked_take(self) -> LiveService | None:
        with self._lock:
            return self._take()

    def _take(self) -> LiveService | None:
        """The service, no longer kept. Its worker waits for no network any more, so that it can be closed."""
        if self._networks is not None:
            self._networks.release()
        service, self._service, self._networks = self._service, None, None
        return service


HOST = LiveHost()


def page_path(avatar: str) -> str:
    """The page of an avatar, below ComfyUI's own address."""
    return f"{PREFIX}/?avatar={quote(avatar)}"


def page_address(avatar: str) -> str:
    """The same for a browser on this machine."""
    server = PromptServer.instance
    address = getattr(server, "address", "127.0.0.1")
    host = "127.0.0.1" if address in _EVERYWHERE else f"[{address}]" if ":" in address else address
    scheme = "https" if args.tls_keyfile and args.tls_certfile else "http"
    return f"{scheme}://{host}:{getattr(server, 'port', args.port)}{page_path(avatar)}"


def _is_stored(store: Any, name: str, avatar: Avatar, published: Avatar | None) -> bool:
    try:
        kept = read_description(store.root / name)["content_hash"]
    except (AvatarError, KeyError):
        return False
    # Pictures are stored as a video, which has another hash; those who were stored by this process are known.
    return published is avatar or kept == avatar.content_hash()


def _loop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = PromptServer.instance.loop
    return loop
