"""A cache with a limit in bytes: the least recently used leaves first, what is in use stays."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import LiveError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class CacheFullError(LiveError):
    """Something does not fit, because it is too large or because all else is in use."""


class InUseError(LiveError):
    """Something cannot be taken away while it is used."""


@dataclass
class _Entry(Generic[V]):
    value: V
    size: int
    pins: int = 0


class ByteCache(Generic[K, V]):
    """Values by key, ``limit`` bytes of them at most. Any thread may call.

    A pinned value is in use: it is neither evicted nor removed until it was unpinned as often.
    """

    def __init__(self, limit: int, what: str) -> None:
        """what: the name of the cache in messages."""
        self.limit = limit
        self.evictions = 0
        self._what = what
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: K) -> bool:
        with self._lock:
            return key in self._entries

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes held."""
        with self._lock:
            return self._size()

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None where there is none."""
        with self._lock:
            entry = self._touch(key)
            return None if entry is None else entry.value

    def peek(self, key: K) -> V | None:
        """As :meth:`get`, by someone who only looks: it does not count as use."""
        with self._lock:
            return self._entries[key].value if key in self._entries else None

    def pin(self, key: K) -> V | None:
        """As :meth:`get`, and in use from here on where there is one."""
        with self._lock:
            entry = self._touch(key)
            if entry is None:
                return None
            entry.pins += 1
            return entry.value

    def unpin(self, key: K) -> None:
        """One user less. Raises KeyError for a key that nobody uses: a value released twice is a mistake."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.pins == 0:
                raise KeyError(key)
            entry.pins -= 1

    def pins(self, key: K) -> int:
        """How many use the value now."""
        with self._lock:
            return self._entries[key].pins if key in self._entries else 0

    def make_room(self, size: int) -> None:
        """Evict until ``size`` more bytes fit. Raises CacheFullError, evicting nothing, where they cannot."""
        with self._lock:
            self._make_room(size)

    def put(self, key: K, value: V, size: int, *, pinned: bool = False) -> None:
        """Add or replace a value. Raises CacheFullError where it does not fit, InUseError for a key in use."""
        with self._lock:
            self._remove(key)
            self._make_room(size)
            self._entries[key] = _Entry(value, size, int(pinned))

    def remove(self, key: K) -> None:
        """Forget a value, if there is one. Raises InUseError where it is in use."""
        with self._lock:
            self._remove(key)

    def _size(self) -> int:
        return sum(entry.size for entry in self._entries.values())

    def _touch(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def _remove(self, key: K) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.pins:
            raise InUseError(f"{key} is in use {entry.pins} times; close what uses it first")
        del self._entries[key]

    def _make_room(self, size: int) -> None:
        pinned = sum(entry.size for entry in self._entries.values() if entry.pins)
        if pinned + size > self.limit:
            raise CacheFullError(
                f"the {self._what} holds {self.limit >> 20} MiB, of which {pinned >> 20} MiB are in use; "
                f"{-(-size >> 20)} MiB more do not fit: raise the limit, or close a session"
            )
        excess = self._size() + size - self.limit
        for key in [key for key, entry in self._entries.items() if not entry.pins]:
            if excess <= 0:
                break
            excess -= self._entries.pop(key).size
            self.evictions += 1
