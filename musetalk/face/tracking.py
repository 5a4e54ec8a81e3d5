"""One person's face over a whole clip."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from numbers import Real

from ..errors import Cancelled, InputError
from ..profile import Profile
from .clip import ClipReader, Frames
from .finish import is_smoothed, make_track
from .mattes import Mattes
from .mesh_source import MeshLandmarks
from .scenes import note_cuts
from .sightings import Sightings
from .sources import LandmarkSource, Select, TrackRequest
from .track import FaceTrack


def track_faces(
    frames: Frames,
    *,
    source: LandmarkSource | None = None,
    count: int | None = None,
    select: Select = "largest",
    min_score: float = 0.5,
    still: bool = False,
    live: bool = False,
    profile: Profile | None = None,
    occluder: Mattes | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> FaceTrack:
    """Find one face in the first frame that shows one and follow it to the end of the clip.

    frames: the clip; read in order, once, in slices of bounded size. Its ``fps``, if it has one (else 25),
        tells how long a second is.
    source: where landmarks come from; the built-in face mesh by default.
    count: only this many frames from the first.
    select: which face: ``"largest"``, or the one nearest to a point (x, y) in pixels.
    min_score: the least score of a face, between 0 and 1.
    still: frames are pictures of their own: ``select`` applies to each, and nothing is carried to the next.
    live: no frame of the track depends on a later one, as for an avatar that answers at once (see ``make_track``).
    profile, occluder: see ``make_track``.
    progress: called with frames done and frames in all after each frame.
    cancelled: asked once per frame.

    Returns a FaceTrack with one entry per frame. Frames without a usable face are not valid; a clip that
    shows no face gives a track with no valid frame. For a second after a face is lost it is taken up again
    only near where it was and at a similar size; after that, the face most like it in place and size is
    taken.
    Raises InputError for an option or a clip that cannot be used, Cancelled when ``cancelled`` says so.
    """
    profile = profile or Profile()
    source = MeshLandmarks() if source is None else source
    clip = ClipReader(frames)
    request = make_request(clip, count=count, select=select, min_score=min_score, still=still, parity=profile.parity)
    seen = Sightings.empty(request.count)
    pictures, cuts = clip.each(request.count), list[int]()
    if is_smoothed(profile, still=still):
        pictures = note_cuts(pictures, cuts)
    done = 0
    for i, observation in enumerate(islice(source.observe(pictures, request), request.count)):
        stop_if(cancelled, i, request.count)
        seen.add(i, observation)
        done = i + 1
        if progress is not None:
            progress(done, request.count)
    check_answered(source, done, request.count)
    seen.cuts = tuple(cuts)
    return make_track(seen, request.size, request.fps, profile, still=still, live=live, occluder=occluder)


def make_request(
    clip: ClipReader,
    *,
    count: int | None = None,
    select: Select = "largest",
    min_score: float = 0.5,
    still: bool = False,
    parity: bool = False,
) -> TrackRequest:
    """The request for a clip, with every option checked. Raises InputError."""
    count = clip.total if count is None else min(count, clip.total)
    if count < 1:
        raise InputError(f"{count} frames are to be looked at; pass a count of at least one")
    if not 0 < min_score < 1:
        raise InputError(f"min_score is {min_score}; pass a number between 0 and 1, such as 0.5")
    return TrackRequest(
        total=clip.total,
        count=count,
        size=clip.size,
        fps=clip.fps,
        select=_checked_select(select, clip.size),
        min_score=min_score,
        still=still,
        parity=parity,
    )


def stop_if(cancelled: Callable[[], bool] | None, done: int, count: int) -> None:
    """Raise Cancelled where the caller asked for it."""
    if cancelled is not None and cancelled():
        raise Cancelled(f"face tracking was stopped after {done} of {count} frames")


def check_answered(source: LandmarkSource, done: int, count: int) -> None:
    """Refuse a source that answered for too few frames."""
    if done < count:
        raise InputError(f"{source.name}: only {done} of {count} frames were answered")


def check_point(select: object, size: tuple[int, int]) -> tuple[float, float] | None:
    """A point (x, y) as plain numbers; None for what is no pair of numbers. Raises InputError outside the picture."""
    if not isinstance(select, tuple | list) or len(select) != 2:
        return None
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in select):
        return None
    if not all(0 <= value < limit for value, limit in zip(select, size, strict=True)):
        x, y = select
        raise InputError(f"the point ({x}, {y}) is outside the {size[0]}x{size[1]} picture; pass pixels within it")
    return float(select[0]), float(select[1])


def _checked_select(select: Select, size: tuple[int, int]) -> Select:
    point = "largest" if isinstance(select, str) and select == "largest" else check_point(select, size)
    if point is None:
        width, height = size
        raise InputError(f'select is {select!r}; pass "largest" or a point (x, y) within the {width}x{height} picture')
    return point
