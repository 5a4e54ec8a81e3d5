"""A clip against the truth of the synthetic clip it was made from (``musetalk synthesize``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..latents import crop_face
from ..models.load import resolve_device
from ..training.synthetic.clips import Truth, frame_times
from ..training.synthetic.opening import OpeningProbe
from ..training.synthetic.still import MASKED_FROM, SIZE
from ..training.synthetic.truth_file import SOURCE_FILE, TALKING_FILE, TRUTH_FILE, TruthFile, read_truth
from ..video.frames import FrameSource
from .correlation import pearson
from .perceptual import load_lpips
from .pixels import PixelMeter, RegionScores
from .progress import Step, no_step

SHUT_BELOW = 0.05
"""Lips nearer than this part of the still's vertical unit are closed.

Every viseme of an open mouth is wider at its target (the narrowest is w: 0.054, f 0.065; the
fricative b of Spanish is nearly shut), and the probe errs by about
0.01 on the clip itself: what is below is not a narrow vowel, and a closed mouth is not above by chance.
"""

_BATCH = 16
_MOST_OTHERS = 20
_FRAMES_ROUNDED_OFF = 1

Pictures = Callable[[np.ndarray], np.ndarray]
"""Face crops, uint8 RGB ``[n, 256, 256, 3]``, to what a network makes of them, of the same shape."""


@dataclass(frozen=True)
class OpeningScores:
    """How mouth openings follow the truth, from the first sound to the last.

    frames: how many these are. correlation: Pearson's r; None under 16 frames or where one of both is still.
    rmse: pixels of the 256 crop. other_correlation: r with the truths of ``others`` other clips at the same time
        index, their mean; None without any.
    shut_frames: inside a p, b or m. shut_closed, other_closed: how many of them, and of all others, have closed lips,
        0..1; the second is what chance would give. closed_below: pixels, see ``SHUT_BELOW``.
    """

    frames: int
    correlation: float | None
    rmse: float
    other_correlation: float | None
    others: int
    shut_frames: int
    shut_closed: float | None
    other_closed: float | None
    closed_below: float


@dataclass(frozen=True)
class TruthScores:
    """A clip against its truth.

    frames: measured, as many as both have. truth_frames: of the truth.
    opening: of the clip. ceiling: of the true clip measured the same way, which nothing can beat. vae: of the true
        clip through the autoencoder, which the generator cannot beat.
    mouth, vae_mouth: pixels around the mouth against the true clip, in the 256 crop. outside: everything out of the
        face box, a few pixels around it left out, against the source that was given to lip-sync.
    """

    frames: int
    truth_frames: int
    opening: OpeningScores
    ceiling: OpeningScores | None
    vae: OpeningScores | None
    mouth: RegionScores | None
    vae_mouth: RegionScores | None
    outside: RegionScores | None


def score_openings(openings: np.ndarray, truth: Truth, tall: float, others: Sequence[Truth] = ()) -> OpeningScores:
    """Openings, float32 ``[n]`` in pixels as `OpeningProbe` measures them, of the first n frames of a clip.

    tall: ``Still.tall`` of the face. others: truths of unrelated clips of the same rate.
    """
    count = min(len(openings), len(truth))
    spoken = slice(truth.spoken.start, min(truth.spoken.stop, count))
    found, wanted = openings[spoken].astype(np.float64), truth.openings[spoken].astype(np.float64)
    shut = truth.shut[spoken]
    closed = found < SHUT_BELOW * tall
    unrelated = [r for other in others if (r := _unrelated(openings[:count], truth, other)) is not None]
    return OpeningScores(
        frames=len(found),
        correlation=pearson(found, wanted),
        rmse=float(np.sqrt(((found - wanted) ** 2).mean())) if len(found) else float("nan"),
        other_correlation=float(np.mean(unrelated)) if unrelated else None,
        others=len(unrelated),
        shut_frames=int(shut.sum()),
        shut_closed=float(closed[shut].mean()) if shut.any() else None,
        other_closed=float(closed[~shut].mean()) if (~shut).any() else None,
        closed_below=SHUT_BELOW * tall,
    )


def _unrelated(openings: np.ndarray, truth: Truth, other: Truth) -> float | None:
    first = max(truth.spoken.start, other.spoken.start)
    stop = min(len(openings), truth.spoken.stop, other.spoken.stop)
    return pearson(openings[first:stop].astype(np.float64), other.openings[first:stop].astype(np.float64))


@dataclass(frozen=True, eq=False)
class KnownClip:
    """A synthetic clip's folder, the truth in it, and the truths of unrelated clips."""

    folder: Path
    known: TruthFile
    others: tuple[Truth, ...]


def open_truth(path: Path | str, video: FrameSource, others: Sequence[Path | str] | None = None) -> KnownClip:
    """The clip that ``video`` was made from.

    path: ``truth.json`` or its folder. others: the same of unrelated clips, this one left out where it is among them;
    by default those in the folders beside, 20 at most.

    Raises InputError for a truth that cannot be read, or that is of another size or rate than the video.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    known = read_truth(path)
    if video.size != known.size:
        sizes = [f"{width}x{height}" for width, height in (video.size, known.size)]
        raise InputError(
            f"the video is {sizes[0]} and the clip of {path} {sizes[1]}; give what was made from that clip"
        )
    if video.fps != known.fps:
        raise InputError(
            f"the video has {float(video.fps):.6g} frames a second and the clip of {path} {float(known.fps):.6g}; "
            "give what was made from that clip"
        )
    unrelated = {place: read_truth(place) for place in map(_truth_file, _beside(folder) if others is None else others)}
    unrelated.pop(_truth_file(path), None)
    for other, truth in unrelated.items():
        if truth.fps != known.fps:
            raise InputError(f"{other} has {truth.fps} frames a second and {path} {known.fps}; leave it out of --other")
    return KnownClip(folder, known, tuple(truth.truth for truth in unrelated.values()))


def compare_with_truth(
    video: FrameSource,
    clip: KnownClip,
    *,
    vae: Pictures | None = None,
    device: str | None = None,
    missing: dict[str, str],
    progress: Step = no_step,
) -> TruthScores:
    """Measure a clip.

    clip: from `open_truth`; what is gone of the true clip and the source beside it is left out. vae: an autoencoder,
        for its own ceiling. missing: takes the reasons for what cannot be told.
    """
    known = clip.known
    probe = OpeningProbe(known.still, known.take)
    count = min(len(video), len(known.truth))
    times = frame_times(count, known.fps)
    perceptual = load_lpips(resolve_device(device))
    if isinstance(perceptual, str):
        missing["truth.mouth.lpips"] = perceptual
    lpips = None if isinstance(perceptual, str) else perceptual
    mouths = np.tile(mouth_window(known), (count, 1))
    mouth, vae_mouth = PixelMeter(mouths, lpips), PixelMeter(mouths, lpips)
    outside = PixelMeter(np.tile(_box_with_slack(known), (count, 1)))
    rows: dict[str, list[np.ndarray]] = {"opening": [], "ceiling": [], "vae": []}
    with ExitStack() as stack:
        talking = _beside_truth(stack, clip.folder / TALKING_FILE, count, missing, "truth.ceiling")
        source = _beside_truth(stack, clip.folder / SOURCE_FILE, count, missing, "truth.outside")
        for start in range(0, count, _BATCH):
            part = slice(start, min(start + _BATCH, count))
            frames = video[part]
            crops = _crops(frames, known)
            rows["opening"].append(probe.measure(crops, times[part]))
            if talking is not None:
                true = _crops(talking[part], known)
                rows["ceiling"].append(probe.measure(true, times[part]))
                _update(mouth, start, crops, true)
                if vae is not None:
                    rebuilt = vae(true)
                    rows["vae"].append(probe.measure(rebuilt, times[part]))
                    _update(vae_mouth, start, rebuilt, true)
            if source is not None:
                _update(outside, start, frames, source[part])
            progress(part.stop, count)
    scores = {
        name: score_openings(np.concatenate(parts), known.truth, known.still.tall, clip.others) if parts else None
        for name, parts in rows.items()
    }
    found = scores["opening"]
    assert found is not None
    if found.correlation is None:
        missing["truth.opening.correlation"] = f"{found.frames} frames of speech are too few, or the mouth is still"
    if found.other_correlation is None:
        missing["truth.opening.other_correlation"] = (
            "no truth of another clip was given or is beside this one, or the mouth is still"
        )
    if vae is None:
        missing["truth.vae"] = "pass --vae (vae=...) to measure the true clip through the autoencoder"
    elif "truth.ceiling" in missing:
        missing["truth.vae"] = missing["truth.ceiling"]
    if count < len(known.truth) - _FRAMES_ROUNDED_OFF:
        missing["truth.frames"] = (
            f"the video has {count} frames and its truth {len(known.truth)}; the others are not told"
        )
    return TruthScores(
        frames=count,
        truth_frames=len(known.truth),
        opening=found,
        ceiling=scores["ceiling"],
        vae=scores["vae"],
        mouth=mouth.result().inside,
        vae_mouth=vae_mouth.result().inside,
        outside=outside.result().outside,
    )


def mouth_window(known: TruthFile) -> np.ndarray:
    """int ``[4]``: x0 y0 x1 y1 of the mouth at its widest and of what the jaw moves, in the 256 crop."""
    still = known.still
    centre = SIZE - 1 - still.centre if known.take.mirror else still.centre
    window = [
        centre - 1.3 * still.half,
        max(still.rest.row - 0.9 * still.tall, MASKED_FROM),
        centre + 1.3 * still.half,
        still.rest.row + 1.5 * still.tall,
    ]
    return np.clip(np.round(window), 0, SIZE).astype(np.int64)


def _box_with_slack(known: TruthFile) -> np.ndarray:
    """The face box and a little more: an engine finds the face again, with its mouth at rest."""
    x0, y0, x1, y1 = known.box
    slack = max(2, (x1 - x0) // 32)
    width, height = known.size
    return np.clip([x0 - slack, y0 - slack, x1 + slack, y1 + slack], 0, [width, height, width, height])


def _truth_file(path: Path | str) -> Path:
    """One path for each clip, however it is given."""
    path = Path(path).resolve()
    return path / TRUTH_FILE if path.is_dir() else path


def _beside(folder: Path) -> list[Path]:
    own = folder.resolve()
    return sorted(path for path in own.parent.glob(f"*/{TRUTH_FILE}") if path.parent != own)[:_MOST_OTHERS]


def _beside_truth(stack: ExitStack, path: Path, count: int, missing: dict[str, str], field: str) -> FrameSource | None:
    if not path.is_file():
        missing[field] = f"{path} is not there"
        return None
    frames = stack.enter_context(FrameSource.open(path))
    if len(frames) < count:
        raise InputError(f"{path} has {len(frames)} frames, its truth {count}; synthesize the clip again")
    return frames


def _crops(frames: np.ndarray, known: TruthFile) -> np.ndarray:
    return np.stack([crop_face(frame, known.box) for frame in frames])


def _update(meter: PixelMeter, start: int, first: np.ndarray, second: np.ndarray) -> None:
    for index, (one, other) in enumerate(zip(first, second, strict=True), start):
        meter.update(index, one, other)
