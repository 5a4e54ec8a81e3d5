"""Closed mouths on disk, so that a restarted server need not draw them again."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .live_avatar import LiveAvatar

logger = logging.getLogger(__name__)


class ClosedMouths:
    """A folder of closed mouths, by the avatar's content hash; over ``limit`` bytes the least recently used leave."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def load(self, content_hash: str, live: LiveAvatar) -> dict[int, np.ndarray]:
        """The closed mouths of an avatar by source frame, none where there are none. A damaged file is removed."""
        path = self._path(content_hash)
        try:
            tensors = load_file(path)
            path.touch()
        except FileNotFoundError:
            return {}
        except (OSError, SafetensorError) as error:
            logger.warning("%s is damaged (%s); it will be made again", path, error)
            path.unlink(missing_ok=True)
            return {}
        patches = {int(name): tensor.numpy() for name, tensor in tensors.items()}
        if not all(live.takes(source, patch) for source, patch in patches.items()):
            path.unlink(missing_ok=True)
            return {}
        return patches

    def save(self, content_hash: str, live: LiveAvatar) -> None:
        """Keep what is there. A full disk costs nothing but the time to draw them again."""
        patches = {
            str(i): torch.from_numpy(np.ascontiguousarray(p)) for i, p in enumerate(live.closed) if p is not None
        }
        size = sum(patch.numel() for patch in patches.values())
        if not patches or size > self._limit:
            return
        path = self._path(content_hash)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            self._folder.mkdir(exist_ok=True)
            self._make_room(size)
            save_file(patches, part)
            part.replace(path)
        except (OSError, SafetensorError) as error:  # the latter is how a full disk shows there
            logger.warning("the closed mouths cannot be kept in %s: %s", path, error)
        finally:
            part.unlink(missing_ok=True)

    def remove(self, content_hash: str) -> None:
        self._path(content_hash).unlink(missing_ok=True)

    def _path(self, content_hash: str) -> Path:
        return self._folder / f"{content_hash}.safetensors"

    def _make_room(self, size: int) -> None:
        files = sorted(
            ((path.stat(), path) for path in self._folder.glob("*.safetensors")), key=lambda f: f[0].st_mtime
        )
        held = sum(stat.st_size for stat, _ in files)
        for stat, path in files:
            if held + size <= self._limit:
                return
            path.unlink(missing_ok=True)
            held -= stat.st_size
