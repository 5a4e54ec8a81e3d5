"""One person's face over a whole clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from typing import Protocol

import numpy as np

from ..errors import Cancelled, InputError
from .boxes import Box, face_box, fit_box, shift_box
from .sources import FaceObservation, LandmarkSource, MeshLandmarks, Select, TrackRequest
from .track import FaceTrack

# Frames are read in slices of about this size: long enough to decode well, short enough for 8K.
_CHUNK_BYTES = 64 << 20
_DEFAULT_FPS = Fraction(25)


class Frames(Protocol):
    """A clip: its length, and slices uint8 RGB ``[n, H, W, 3]``. A FrameSource is one; so is an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> np.ndarray: ...


def track_faces(
    frames: Frames,
    *,
    source: LandmarkSource | None = None,
    count: int | None = None,
    select: Select = "largest",
    bbox_shift: int = 0,
    min_score: float = 0.5,
    parity: bool = False,
    still: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FaceTrack:
    """Find one face in the first frame that shows one and follow it to the end of the clip.

    frames: the clip; read in order, once, in slices of bounded size. Its ``fps``, if it has one (else 25),
        tells how long a second is.
    source: where landmarks come from; the built-in face mesh by default.
    count: only this many frames from the first.
    select: which face: ``"largest"``, or the one nearest to a point (x, y) in pixels.
    bbox_shift: pixels to move the box's middle line, positive = down (spec 3.3).
    min_score: the least score of a face, between 0 and 1.
    parity: upstream's clamping of the box (see ``face_box``).
    still: frames are pictures of their own: ``select`` applies to each, and nothing is carried to the next.
    progress: called with frames done and frames in all after each frame.
    cancelled: asked once per frame.

    Returns a FaceTrack with one entry per frame. Frames without a usable face are not valid; a clip that
    shows no face gives a track with no valid frame. For a second after a face is lost it is taken up again
    only near where it was and at a similar size; after that, the face most like it in place and size is
    taken.
    Raises InputError for an option or a clip that cannot be used, Cancelled when ``cancelled`` says so.
    """
    total = len(frames)
    count = total if count is None else min(count, total)
    if count < 1:
        raise InputError(f"no frames to look at: the clip has {total} and {count} are wanted; pass at least one")
    if not 0 < min_score < 1:
        raise InputError(f"min_score is {min_score}; pass a number between 0 and 1, such as 0.5")
    first = _checked(frames[0:1], None)
    size = first.shape[2], first.shape[1]
    source = MeshLandmarks() if source is None else source
    request = TrackRequest(
        total=total,
        count=count,
        size=size,
        fps=Fraction(getattr(frames, "fps", None) or _DEFAULT_FPS),
        select=_checked_select(select, size),
        min_score=min_score,
        still=still,
    )
    boxes, valid = np.zeros((count, 4), np.int32), np.zeros(count, bool)
    scores = np.zeros(count, np.float32)
    landmarks: np.ndarray | None = None
    mesh: np.ndarray | None = None
    done = 0
    for i, seen in enumerate(islice(source.observe(_each(frames, first, count), request), count)):
        if cancelled is not None and cancelled():
            raise Cancelled(f"face tracking was stopped after {i} of {count} frames")
        box = _box(seen, size, bbox_shift, parity)
        if box is not None:
            boxes[i], valid[i] = box, True
        landmarks = _with_row(landmarks, seen.landmarks, i, count)
        mesh = _with_row(mesh, seen.mesh, i, count)
        scores[i] = seen.score
        done = i + 1
        if progress is not None:
            progress(done, count)
    if done < count:
        raise InputError(f"{source.name}: only {done} of {count} frames were answered")
    return FaceTrack(boxes, valid, landmarks, mesh, scores)


def _each(frames: Frames, first: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Single frames in order, in slices of bounded size; ``first`` is the slice ``[0:1]``, read already."""
    yield first[0]
    chunk = max(1, _CHUNK_BYTES // first[0].nbytes)
    for start in range(1, count, chunk):
        stop = min(start + chunk, count)
        part = _checked(frames[start:stop], first.shape[1:])
        if len(part) != stop - start:
            raise InputError(
                f"frames {start}-{stop - 1}: the clip gave {len(part)} of {stop - start}; its length is wrong"
            )
        yield from part


def _checked(part: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    if part.dtype != np.uint8 or part.ndim != 4 or part.shape[3] != 3 or 0 in part.shape:
        raise InputError(f"frames must be uint8 [n, H, W, 3] RGB, got {part.dtype} {list(part.shape)}")
    if shape is not None and part.shape[1:] != shape:
        raise InputError(f"frames change size from {list(shape)} to {list(part.shape[1:])}; a clip has one size")
    return part


def _checked_select(select: Select, size: tuple[int, int]) -> Select:
    if isinstance(select, str):
        if select == "largest":
            return select
    elif len(select) == 2 and all(0 <= v < limit for v, limit in zip(select, size, strict=True)):
        return float(select[0]), float(select[1])
    raise InputError(f'select is {select!r}; pass "largest" or a point (x, y) within the {size[0]}x{size[1]} picture')


def _box(seen: FaceObservation, size: tuple[int, int], bbox_shift: int, parity: bool) -> Box | None:
    if seen.landmarks is None:
        return None if seen.box is None else fit_box(shift_box(seen.box, bbox_shift), size, parity)
    box = face_box(seen.landmarks, size, bbox_shift, parity)
    if box is None and seen.box is not None:
        return fit_box(seen.box, size, parity)
    return box


def _with_row(rows: np.ndarray | None, row: np.ndarray | None, i: int, count: int) -> np.ndarray | None:
    """``rows`` with row ``i`` set: float32 ``[count, ...]``, NaN elsewhere, made with the first row."""
    if row is None:
        return rows
    if rows is None:
        rows = np.full((count, *row.shape), np.nan, np.float32)
    rows[i] = row
    return rows
