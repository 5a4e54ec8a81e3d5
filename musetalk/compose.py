"""Faces and footage to output frames (spec section 6.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .blend import paste_face
from .errors import InputError
from .playback import check_loop, source_indices

if TYPE_CHECKING:
    from .avatar import Avatar
    from .video.frames import FrameSource

_CHUNK_BYTES = 48 << 20


def chunk_length(frames: FrameSource, most: int) -> int:
    """How many frames are handled at once: ``most``, or fewer where the pictures are large."""
    return max(1, min(most, _CHUNK_BYTES // (3 * frames.width * frames.height)))


def paste_back(
    avatar: Avatar, faces: np.ndarray, *, loop: str = "ping-pong", start: int = 0, chunk: int = 8
) -> Iterator[np.ndarray]:
    """Blend faces back into the footage, a few frames at a time.

    faces: uint8 RGB ``[N, S, S, 3]``, any size S; face i goes into source frame ``source_index(start + i)``. Yields
    uint8 RGB ``[n, H, W, 3]`` pieces, ``N`` frames in all. Pixels outside the mask, and whole frames without a face,
    are those of the footage, bit for bit. Raises InputError for faces of another shape or dtype.
    """
    if faces.ndim != 4 or faces.shape[-1] != 3 or faces.dtype != np.uint8:
        raise InputError(f"faces are {faces.dtype} {list(faces.shape)}; expected uint8 [N, S, S, 3]")
    check_loop(loop)
    return _paste_chunks(avatar, faces, loop, start, chunk_length(avatar.frames, chunk))


def _paste_chunks(avatar: Avatar, faces: np.ndarray, loop: str, start: int, chunk: int) -> Iterator[np.ndarray]:
    for first in range(0, len(faces), chunk):
        part = faces[first : first + chunk]
        sources = source_indices(start + first, start + first + len(part), len(avatar.frames), loop)
        frames = np.array(avatar.frames.read(sources))
        for frame, face, source in zip(frames, part, sources, strict=True):
            mask = avatar.mask_of(source)
            if mask is not None:
                paste_face(frame, face, mask)
        yield frames
