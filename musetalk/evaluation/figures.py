"""Every number of an evaluation as text: name, value, and what it means in one line."""

from __future__ import annotations

from dataclasses import dataclass

from .motion import MouthMotion
from .pixels import RegionScores
from .result import Comparison, Evaluation
from .sync_strip import describe_offset
from .truth import OpeningScores, TruthScores


@dataclass(frozen=True)
class Figure:
    """One row of the report. value: None where it was not measured; meaning then says why."""

    name: str
    value: str | None
    meaning: str


def figures(evaluation: Evaluation) -> list[Figure]:
    """All rows, in the order they are read."""
    rows = [
        Figure(
            "Frames with a mouth", f"{evaluation.faces} of {evaluation.frames}", "the rest is left out of the measures"
        ),
        *_sync(evaluation),
        *_syncnet(evaluation),
        _motion(evaluation, "Mouth motion", evaluation.motion, "motion"),
        _motion(evaluation, "Mouth motion in silence", evaluation.silent_motion, "silent_motion"),
        _shake(evaluation),
    ]
    if evaluation.truth is not None:
        rows += _truth(evaluation, evaluation.truth)
    if evaluation.comparison is not None:
        rows += _comparison(evaluation, evaluation.comparison)
    return rows


def _sync(evaluation: Evaluation) -> list[Figure]:
    sync = evaluation.sync
    if sync is None:
        return [Figure("Mouth and sound", None, evaluation.missing["sync"])]
    rows = [
        Figure("Mouth and sound", f"r = {sync.correlation:.3f}", "correlation of opening and articulation as they are"),
        Figure(
            "At the best offset",
            f"r = {sync.best:.3f}",
            f"the highest over offsets of 15 frames each way; chance stays below {sync.chance:.2f} here",
        ),
    ]
    if sync.offset_frames is None or sync.offset_seconds is None:
        return [*rows, Figure("Sound against lips", None, sync.doubt or "")]
    offset = f"{describe_offset(sync.offset_frames)} ({sync.offset_seconds * 1000:+.0f} ms)"
    return [*rows, Figure("Sound against lips", offset, "where that correlation lies; lips may lead by a frame or two")]


def _syncnet(evaluation: Evaluation) -> list[Figure]:
    score = evaluation.syncnet
    if score is None:
        return [Figure("SyncNet", None, evaluation.missing["syncnet"])]
    offset = f"{describe_offset(score.offset_frames)} ({score.offset_seconds * 1000:+.0f} ms)"
    return [
        Figure("SyncNet confidence", f"{score.confidence:.3f}", "best less median similarity over all offsets"),
        Figure("SyncNet offset", offset, f"where the similarity is best, {score.similarity:.3f}"),
    ]


def _motion(evaluation: Evaluation, name: str, motion: MouthMotion | None, field: str) -> Figure:
    if motion is None:
        return Figure(name, None, evaluation.missing[field])
    verdict = f"still, being below {motion.still_below:.3f}" if motion.still else "not still"
    value = f"spread {motion.std:.4f}, path {motion.variation:.3f}/s"
    return Figure(name, value, f"of the opening, in eye distances, over {motion.frames} frames: {verdict}")


def _shake(evaluation: Evaluation) -> Figure:
    shake = evaluation.shake
    if shake is None:
        return Figure("Landmark jitter", None, evaluation.missing["shake"])
    value = f"{shake.pixels:.3f} px, {shake.relative:.3%} of the face's width"
    other = evaluation.comparison.shake if evaluation.comparison is not None else None
    beside = "" if other is None else f"; the reference has {other.pixels:.3f} px"
    return Figure("Landmark jitter", value, f"how much the face shakes from frame to frame{beside}")


def _comparison(evaluation: Evaluation, comparison: Comparison) -> list[Figure]:
    missing = evaluation.missing
    length = f"{comparison.frames} (video {evaluation.frames}, reference {comparison.reference_frames})"
    rows = [Figure("Frames compared", length, "the same index in both, as far as both go")]
    if comparison.opening_correlation is None:
        rows.append(Figure("Mouth and reference's mouth", None, missing["comparison.opening_correlation"]))
    else:
        rows.append(
            Figure("Mouth and reference's mouth", f"r = {comparison.opening_correlation:.3f}", _likewise(comparison))
        )
    if comparison.opening_rmse is not None:
        rows.append(Figure("Opening error", f"{comparison.opening_rmse:.4f}", "root mean square, in eye distances"))
    likeness = comparison.likeness
    if likeness is None:
        rows.append(Figure("Likeness of the face", None, missing["comparison.likeness"]))
    else:
        rows.append(
            Figure(
                f"Likeness of the face ({likeness.measure})",
                f"{likeness.mean:.3f}, least {likeness.least:.3f}",
                "colour pattern above the mouth, not a biometric"
                if likeness.measure == "appearance"
                else "cosine of the caller's embedding",
            )
        )
    rows += _region(comparison.inside, "Lower face", missing.get("comparison.inside", ""))
    return rows + _region(comparison.outside, "Everything else", "there is nothing else")


def _truth(evaluation: Evaluation, truth: TruthScores) -> list[Figure]:
    missing = evaluation.missing
    rows = [
        Figure(
            "Frames against the truth",
            f"{truth.frames} of {truth.truth_frames}",
            missing.get("truth.frames", "the same index in both, as far as both go"),
        )
    ]
    rows += _opening(
        truth.opening,
        "Mouth and truth",
        missing["truth.opening.correlation"] if truth.opening.correlation is None else "",
    )
    if truth.opening.other_correlation is None:
        rows.append(Figure("Mouth and other clips' truth", None, missing["truth.opening.other_correlation"]))
    else:
        rows.append(
            Figure(
                "Mouth and other clips' truth",
                f"r = {truth.opening.other_correlation:.3f}",
                f"mean over {truth.opening.others} clips at the same time index; what follows nothing but time",
            )
        )
    for scores, name, field in (
        (truth.ceiling, "Ceiling (the true clip measured)", "truth.ceiling"),
        (truth.vae, "Ceiling of the autoencoder", "truth.vae"),
    ):
        rows += (
            [Figure(name, None, missing[field])]
            if scores is None
            else _opening(scores, name, "the true mouth is still")
        )
    rows += _region(truth.mouth, "Mouth against the true clip", missing.get("truth.ceiling", ""))
    if truth.vae_mouth is not None:
        rows += _region(truth.vae_mouth, "Mouth through the autoencoder", "")
    return rows + _region(truth.outside, "Out of the face box", missing.get("truth.outside", "there is nothing else"))


def _opening(scores: OpeningScores, name: str, reason: str) -> list[Figure]:
    rows = [
        Figure(name, None, reason)
        if scores.correlation is None
        else Figure(
            name, f"r = {scores.correlation:.3f}", f"of the opening, from first to last sound, {scores.frames} frames"
        )
    ]
    if scores.shut_closed is not None:
        elsewhere = "" if scores.other_closed is None else f"; {scores.other_closed:.0%} of the others"
        rows.append(
            Figure(
                f"{name}: closed on p, b, m",
                f"{scores.shut_closed:.0%}",
                f"of {scores.shut_frames} frames, lips under {scores.closed_below:.1f} pixels of 256 apart{elsewhere}",
            )
        )
    return rows


def _likewise(comparison: Comparison) -> str:
    if comparison.motion is not None and comparison.motion.still:
        return "the reference's mouth is still: this correlates noise"
    return "1 is the same motion"


def _region(scores: RegionScores | None, name: str, reason: str) -> list[Figure]:
    if scores is None:
        return [Figure(name, None, reason)]
    if scores.identical or scores.psnr is None:
        return [Figure(name, "identical", f"not one of {scores.pixels} pixels differs")]
    changed = f"{scores.changed_pixels} of {scores.pixels} pixels differ, by {scores.max_difference} of 255 at most"
    rows = [Figure(f"{name}: PSNR", f"{scores.psnr:.2f} dB", changed)]
    if scores.ssim is not None:
        rows.append(Figure(f"{name}: SSIM", f"{scores.ssim:.4f}", "structure of the luma; 1 is the same"))
    if scores.lpips is not None:
        rows.append(Figure(f"{name}: LPIPS", f"{scores.lpips:.4f}", "perceptual distance; 0 is the same"))
    return rows
