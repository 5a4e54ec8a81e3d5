"""A clip against its reference."""

from __future__ import annotations

import numpy as np

from ..face.track import FaceTrack
from ..models.load import resolve_device
from ..video.frames import FrameSource
from .correlation import pearson
from .likeness import Embedding, LikenessMeter
from .motion import measure_motion
from .mouth import measure_mouth
from .perceptual import MIN_SIDE, PerceptualMap, load_lpips
from .pixels import PixelMeter
from .progress import Step
from .regions import mouth_regions
from .result import Comparison
from .shake import measure_shake

_CHUNK_BYTES = 32 << 20


def compare(
    video: FrameSource,
    reference: FrameSource,
    track: FaceTrack,
    reference_track: FaceTrack,
    *,
    embedding: Embedding | None,
    device: str | None,
    missing: dict[str, str],
    progress: Step,
) -> tuple[Comparison, dict[str, np.ndarray]]:
    """The comparison, and the series it adds. Both clips have one size and rate.

    missing: takes the reasons for what cannot be told. The region that may be repainted is that of the reference's
    face, where the paste put it.
    """
    count = min(len(video), len(reference))
    mouth, other = measure_mouth(track), measure_mouth(reference_track)
    both = mouth.known[:count] & other.known[:count]
    difference = (mouth.opening[:count] - other.opening[:count])[both]
    correlation = pearson(mouth.opening[:count], other.opening[:count])
    if correlation is None:
        missing["comparison.opening_correlation"] = (
            f"{int(both.sum())} frames show a mouth in both clips; it takes 16, in which both mouths move"
        )
    if min(video.size) < MIN_SIDE:
        perceptual: PerceptualMap | str = f"LPIPS needs pictures of {MIN_SIDE} pixels a side"
    else:
        perceptual = load_lpips(resolve_device(device))
    if isinstance(perceptual, str):
        missing["comparison.lpips"] = perceptual
    meter = PixelMeter(
        mouth_regions(reference_track, reference.size), None if isinstance(perceptual, str) else perceptual
    )
    likeness = LikenessMeter(track, reference_track, embedding)
    chunk = max(1, _CHUNK_BYTES // (3 * video.width * video.height))
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        for index, (first, second) in enumerate(zip(video[start:stop], reference[start:stop], strict=True), start):
            meter.update(index, first, second)
            likeness.update(index, first, second)
            progress(index + 1, count)
    pixels = meter.result()
    looks = likeness.result()
    if pixels.inside is None:
        missing["comparison.inside"] = "the reference shows no usable face: everything counts as outside"
    if looks is None:
        missing["comparison.likeness"] = "no frame shows a usable face in both clips"
    comparison = Comparison(
        frames=count,
        reference_frames=len(reference),
        opening_correlation=correlation,
        opening_rmse=float(np.sqrt((difference**2).mean())) if len(difference) else None,
        motion=measure_motion(other, reference.fps),
        shake=measure_shake(reference_track),
        likeness=looks,
        inside=pixels.inside,
        outside=pixels.outside,
    )
    series = {
        "reference_opening": other.opening[:count],
        "psnr_inside": pixels.psnr_inside,
        "psnr_outside": pixels.psnr_outside,
    }
    return comparison, series
