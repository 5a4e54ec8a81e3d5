"""The avatars of a server: a folder of them, made from uploads, kept ready for the sessions that show them."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..avatar import Avatar, check_avatar, prepare_avatar
from ..avatar_file import AVATAR_JSON, load_avatar, read_description, save_avatar
from ..errors import AvatarError, InputError, MuseTalkError
from ..profile import Profile
from .cache import ByteCache, InUseError
from .closed_mouths import ClosedMouths
from .errors import LiveError
from .jobs import BackgroundJob, JobRunner
from .live_avatar import LiveAvatar
from .streaming import silence_window
from .uploads import UploadLimits, check_file, open_upload
from .worker import Worker

if TYPE_CHECKING:
    from ..models import Models

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Windows takes these for devices, in any folder.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_HASH = re.compile(r"[0-9a-f]{64}")
_UPLOADS, _CACHE = ".uploads", ".cache"
_STALE_SECONDS = 24 * 3600


class UnknownAvatarError(LiveError, KeyError):
    """The store has no avatar of this name."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class StoreLimits:
    """upload: of one upload. jobs: waiting at once. avatars: in the folder. ram_bytes: of footage and closed mouths in
    memory. disk_bytes: of closed mouths on disk, beside the avatars themselves."""

    upload: UploadLimits = field(default_factory=UploadLimits)
    jobs: int = 8
    avatars: int = 100
    ram_bytes: int = 4 << 30
    disk_bytes: int = 4 << 30


@dataclass(frozen=True)
class AvatarInfo:
    """One avatar of the store.

    frames, fps, width, height: of its footage; 0 for a damaged one, whose error says why. warm: in memory with all
    mouths closed, so that a session gets it at once. users: how many hold it.
    """

    name: str
    frames: int = 0
    fps: str = "0"
    width: int = 0
    height: int = 0
    warm: bool = False
    users: int = 0
    error: str | None = None


class AvatarStore:
    """Avatars by name in one folder; nothing outside it is ever opened, whatever a name or an upload says.

    What was opened stays in memory as long as there is room, the least recently used leaves first, and what a session
    holds never does. Any thread may call. ``open`` of a cold avatar decodes its footage, and ``list`` and ``delete``
    touch the disk: an event loop calls them in a thread.
    """

    def __init__(
        self,
        root: Path,
        models: Models | Callable[[], Models],
        worker: Worker,
        *,
        limits: StoreLimits | None = None,
        at_hand: Callable[[], bool] = lambda: True,
    ) -> None:
        """root: made if absent. models: as :class:`ModelGenerator` takes them. worker: draws the closed mouths.

        at_hand: whether the models come without waiting; while not, an avatar is opened unchecked, and whether it fits
        them is only found out when it is warmed.
        """
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.limits = limits or StoreLimits()
        self._models = models
        self._at_hand = at_hand
        self._worker = worker
        self._memory: ByteCache[str, LiveAvatar] = ByteCache(self.limits.ram_bytes, "memory for avatars")
        self._closed = ClosedMouths(self.root / _CACHE, self.limits.disk_bytes)
        self._jobs = JobRunner(self.limits.jobs)
        self._loading = threading.Lock()
        # Those that were opened while the models could not be asked.
        self._unchecked: set[str] = set()
        self._silence: torch.Tensor | None = None
        (self.root / _UPLOADS).mkdir(exist_ok=True)
        self._sweep()

    def list(self) -> list[AvatarInfo]:
        """All avatars, by name."""
        infos = []
        for name in sorted(folder.name for folder in self.root.iterdir() if _is_name(folder.name)):
            with suppress(UnknownAvatarError):  # no avatar, or deleted a moment ago
                infos.append(self.info(name))
        return infos

    def info(self, name: str) -> AvatarInfo:
        """One avatar. Raises InputError for what is no name, UnknownAvatarError."""
        folder = self._folder(name)
        live = self._memory.peek(name)
        try:
            footage = read_description(folder)["footage"]
            frames, width, height = (int(footage[key]) for key in ("frames", "width", "height"))
            fps = str(footage["fps"])
        except (AvatarError, KeyError, TypeError, ValueError) as error:
            return AvatarInfo(name, error=str(error).replace(str(folder), name))
        warm = live is not None and live.is_warm
        return AvatarInfo(name, frames, fps, width, height, warm, self._memory.pins(name))

    def open(self, name: str) -> LiveAvatar:
        """An avatar to be shown; ``release()`` it as often as it was opened.

        One in memory is there at once. A cold one is read from disk, and warmed by a job; until that is done it shows
        the mouth as filmed while it is silent. Raises InputError, UnknownAvatarError, AvatarError, also for one that
        was prepared for other models, and CacheFullError where there is no room beside the avatars in use.
        """
        live = self._acquire(name)
        if not live.is_warm and self._jobs.active(name) is None:
            with suppress(LiveError):  # with too many jobs it stays as filmed, and the next to open it asks again
                self.warm(name)
        return live

    def upload_path(self) -> Path:
        """A new file name for an upload's body; :meth:`create` takes such files only."""
        return self.root / _UPLOADS / secrets.token_hex(16)

    def create(self, name: str, upload: Path, *, profile: Profile | None = None) -> BackgroundJob:
        """Make an avatar of an uploaded video or picture, in a job with the stages read, prepare, save and warm.

        upload: a file at a path from :meth:`upload_path`; it is the store's from here on, and removed whatever happens.
        Raises InputError for a name that is taken or none, or a file of the wrong size or kind, and TooManyJobsError.
        What the job finds wrong later is in its ``error``.
        """
        if upload.parent != self.root / _UPLOADS or upload.is_symlink() or not upload.is_file():
            raise InputError("the upload is not in the store's folder; write it to upload_path()")
        try:
            self._check_free(name)
            upload = upload.rename(upload.with_suffix(check_file(upload, self.limits.upload)))
            return self._jobs.submit(BackgroundJob("create", name), partial(self._create, upload, profile))
        except BaseException:
            upload.unlink(missing_ok=True)
            raise

    def add(self, name: str, avatar: Avatar) -> None:
        """Save a copy of a prepared avatar, footage included. Raises InputError for a name that is taken or none."""
        self._check_free(name)
        save_avatar(avatar, self.root / name, copy_footage=True)

    def warm(self, name: str) -> BackgroundJob:
        """Make an avatar ready in a job, so that opening it takes no time and its mouth closes."""
        self._folder(name)
        return self._jobs.submit(BackgroundJob("warm", name), self._warm)

    def job(self, id: str) -> BackgroundJob | None:
        """A job that runs, waits, or ended not long ago."""
        return self._jobs.get(id)

    def delete(self, name: str) -> None:
        """Remove an avatar and all that is kept of it. Raises InUseError while a session or a job uses it."""
        with self._loading:
            folder = self._folder(name)
            if self._jobs.active(name) is not None:
                raise InUseError(f"a job works on the avatar {name}; wait for it, or cancel it")
            self._memory.remove(name)
            # Renamed first: what is half deleted is no avatar.
            gone = folder.rename(folder.with_name(f".{name}.{secrets.token_hex(4)}.old"))
            with suppress(AvatarError):  # a damaged one has nothing kept that could be found
                kept = _content_hash(gone)
                if kept not in self._content_hashes():
                    self._closed.remove(kept)
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Stop the jobs. Avatars that sessions hold stay usable."""
        self._jobs.close()

    @property
    def memory_bytes(self) -> int:
        """Held by avatars in memory."""
        return self._memory.size

    @property
    def evictions(self) -> int:
        """How many avatars left memory for others."""
        return self._memory.evictions

    def _acquire(self, name: str) -> LiveAvatar:
        self._folder(name)
        live = self._memory.pin(name)
        if live is not None:
            return live
        with self._loading:
            # Asked again: meanwhile it may have been deleted.
            return self._memory.pin(name) or self._load(name, self._folder(name))

    def _load(self, name: str, folder: Path) -> LiveAvatar:
        footage = read_description(folder)["footage"]
        stored = (folder / footage["path"]).resolve()
        if not stored.is_relative_to(folder):
            raise AvatarError(f"the footage of the avatar {name} is not in its folder; save it with copy_footage=True")
        # By its description, before anything is decoded; what is put is what it takes.
        self._memory.make_room(3 * int(footage["frames"]) * int(footage["width"]) * int(footage["height"]))
        avatar = load_avatar(folder)
        try:
            self._unchecked.add(name)
            if self._at_hand():
                self._check_fits(name, avatar)
            live = LiveAvatar(avatar, on_release=partial(self._memory.unpin, name))
        finally:
            avatar.frames.close()
        self._memory.put(name, live, live.size(), pinned=True)
        return live

    def _check_fits(self, name: str, avatar: Avatar) -> None:
        """Refuse an avatar that was prepared for other models: its mouth would be noise. Raises AvatarError."""
        try:
            check_avatar(self._ready(), avatar)
        except AvatarError as error:
            raise AvatarError(f"the avatar {name} does not fit this server: {error}") from error
        self._unchecked.discard(name)

    def _create(self, upload: Path, profile: Profile | None, job: BackgroundJob) -> None:
        try:
            avatar = self._prepare(upload, profile, job)
            try:
                job.at("save")
                save_avatar(avatar, self.root / job.subject, copy_footage=True)
            finally:
                avatar.frames.close()
        except MuseTalkError as error:
            # A stranger need not know where the server keeps its files.
            shown = str(error).replace(str(upload), "the upload").replace(str(self.root), "the store")
            raise type(error)(shown) from error
        finally:
            upload.unlink(missing_ok=True)
        self._warm(job)

    def _prepare(self, upload: Path, profile: Profile | None, job: BackgroundJob) -> Avatar:
        job.at("read")
        frames = open_upload(upload, self.limits.upload)
        try:
            return prepare_avatar(self._ready(), frames, profile=profile, progress=job.at("prepare"))
        except BaseException:
            frames.close()
            raise

    def _warm(self, job: BackgroundJob) -> None:
        progress = job.at("warm")
        live = self._acquire(job.subject)
        try:
            if live.is_warm:
                return
            if job.subject in self._unchecked:
                avatar = load_avatar(self.root / job.subject)
                try:
                    self._check_fits(job.subject, avatar)
                finally:
                    avatar.frames.close()
            kept = _content_hash(self.root / job.subject)
            patches = self._closed.load(kept, live)
            # Only then: a session may show this avatar already.
            if live.fits(patches, self._worker, self._window()):
                for source, patch in patches.items():
                    live.closed[source] = patch
            if not live.is_warm:
                live.warm(self._worker, self._window(), progress)
                self._closed.save(kept, live)
        finally:
            live.release()

    def _ready(self) -> Models:
        return self._models() if callable(self._models) else self._models

    def _window(self) -> torch.Tensor:
        if self._silence is None:
            self._silence = silence_window(self._ready())
        return self._silence

    def _folder(self, name: str) -> Path:
        """The folder of an avatar that is there. Raises InputError, UnknownAvatarError."""
        _check_name(name)
        folder = self.root / name
        if not _is_avatar(folder) or folder.resolve() != folder:
            raise UnknownAvatarError(f"there is no avatar {name}; the list names those there are")
        return folder

    def _content_hashes(self) -> set[str]:
        """Of all avatars that are not damaged; those of the same footage share one."""
        hashes = set()
        for folder in self.root.iterdir():
            if _is_name(folder.name) and _is_avatar(folder):
                with suppress(AvatarError):
                    hashes.add(_content_hash(folder))
        return hashes

    def _check_free(self, name: str) -> None:
        """Refuse a name that another avatar has or may not be, and one avatar too many. Raises InputError."""
        _check_name(name)
        if (self.root / name).exists() or self._jobs.active(name) is not None:
            raise InputError(f"there is an avatar {name} already; choose another name, or delete it first")
        if sum(1 for folder in self.root.iterdir() if _is_name(folder.name)) >= self.limits.avatars:
            raise InputError(f"the store has its {self.limits.avatars} avatars; delete one first")

    def _sweep(self) -> None:
        """Remove what a server that was killed left half done."""
        for path in [*(self.root / _UPLOADS).iterdir(), *self.root.glob(".*.part"), *self.root.glob(".*.old")]:
            if path.is_symlink() or time.time() - path.stat().st_mtime < _STALE_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _is_name(name):
        raise InputError(
            f"{str(name)[:80]!r} cannot name an avatar; use 1 to 64 of a-z, 0-9 and -, beginning with a letter or digit"
        )


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in _DEVICES


def _is_avatar(folder: Path) -> bool:
    return (folder / AVATAR_JSON).is_file()


def _content_hash(folder: Path) -> str:
    """As the description has it, which names a file. Raises AvatarError."""
    content_hash = read_description(folder)["content_hash"]
    if not isinstance(content_hash, str) or not _HASH.fullmatch(content_hash):
        raise AvatarError(f"the avatar {folder.name} is damaged (content_hash); prepare it again")
    return content_hash
