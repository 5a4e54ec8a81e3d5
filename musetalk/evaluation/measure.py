"""Measure a lip-synced clip: by itself, against its sound, and against a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio.source import AudioSource
from ..audio.waveform import Waveform, load_waveform
from ..errors import InputError
from ..face.track import FaceTrack
from ..face.tracking import track_faces
from ..profile import Profile
from ..soundtrack import open_sound
from ..video.frames import FrameSource
from .comparing import compare
from .correlation import correlate
from .likeness import Embedding
from .loudness import Loudness, measure_loudness
from .motion import measure_motion
from .mouth import MouthSeries, measure_mouth
from .progress import Step, no_step
from .result import Evaluation, Series, SoundSync
from .shake import measure_shake
from .truth import compare_with_truth, open_truth

if TYPE_CHECKING:
    from ..models.syncnet import SyncNet
    from .syncnet import SyncScore
    from .truth import Pictures

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)`` with stage ``faces``, ``reference faces``, ``pixels``, ``truth`` or ``syncnet``."""

_SYNCNET_HOW = "pass syncnet=..., the LatentSync SyncNet (`musetalk download --include syncnet`)"


def evaluate(
    video: FrameSource | Path | str,
    reference: FrameSource | Path | str | None = None,
    audio: AudioSource | Path | str | None = None,
    *,
    syncnet: SyncNet | Path | str | None = None,
    embedding: Embedding | None = None,
    truth: Path | str | None = None,
    others: Sequence[Path | str] | None = None,
    vae: Pictures | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a clip with one talking face (the largest).

    video: frames or a file. reference: what it is to be compared with, frame by frame of the same index; of the same
        size and rate. When the lengths differ, the frames that both have are compared.
    audio: the sound it should follow; by default the video's own.
    syncnet: weights of LatentSync's SyncNet, or the network; without it its measures are left out.
    embedding: a face recognition network of the caller's, see ``likeness.Embedding``.
    truth: of the synthetic clip it was made from, ``truth.json``; others: truths of clips it has nothing to do with, by
        default those in the folders beside; vae: an autoencoder to measure the true clip through. See ``truth``.
    device: for SyncNet and LPIPS; the best there is by default.

    What cannot be measured is None in the result, with the reason in ``missing``; a clip without a face still has its
    pixels compared. Memory is bounded but for the landmarks and some numbers of every frame.
    Raises InputError for inputs that cannot be read or do not fit each other, before anything is measured.
    """
    with ExitStack() as stack:
        frames = _open(stack, video)
        other = None if reference is None else _open(stack, reference)
        if other is not None:
            _check_fit(frames, other)
        known = None if truth is None else open_truth(truth, frames, others)
        missing: dict[str, str] = {}
        sound = _open_sound(audio, frames, missing)
        network = _open_syncnet(syncnet, device, missing)
        waveform = None if sound is None else stack.enter_context(load_waveform(sound))
        track = _track(frames, progress, "faces")
        mouth = measure_mouth(track)
        loudness = None if waveform is None else measure_loudness(waveform, frames.fps, len(frames))
        found = Evaluation(
            video=_name(video),
            reference=None if reference is None else _name(reference),
            audio=None if sound is None else _name(audio if audio is not None else video),
            frames=len(frames),
            fps=frames.fps,
            width=frames.width,
            height=frames.height,
            faces=int(mouth.known.sum()),
            motion=measure_motion(mouth, frames.fps),
            silent_seconds=None if loudness is None else float(loudness.silent.sum() / frames.fps),
            silent_motion=None if loudness is None else measure_motion(mouth, frames.fps, loudness.silent),
            sync=None,
            syncnet=None,
            shake=measure_shake(track),
            comparison=None,
            truth=None,
            missing=missing,
            series=_series(mouth, loudness),
        )
        _explain(found, loudness, missing)
        if loudness is not None and found.motion is not None:
            found = replace(found, sync=_sound_sync(mouth, loudness, found.motion.still, frames.fps, missing))
        if network is not None and waveform is not None:
            stage = _stage(progress, "syncnet")
            found = replace(found, syncnet=_syncnet_score(network, frames, track, waveform, missing, stage))
        if known is not None:
            stage = _stage(progress, "truth")
            scores = compare_with_truth(frames, known, vae=vae, device=device, missing=missing, progress=stage)
            found = replace(found, truth=scores)
        if other is not None:
            other_track = _track(other, progress, "reference faces")
            comparison, parts = compare(
                frames,
                other,
                track,
                other_track,
                embedding=embedding,
                device=device,
                missing=missing,
                progress=_stage(progress, "pixels"),
            )
            found = replace(found, comparison=comparison, series=replace(found.series, **parts))
        return found


def _sound_sync(
    mouth: MouthSeries, loudness: Loudness, still: bool, fps: Fraction, missing: dict[str, str]
) -> SoundSync | None:
    if not loudness.audible:
        missing["sync"] = "the sound is silent"
        return None
    found = correlate(mouth.opening, loudness.articulation)
    if found is None:
        missing["sync"] = "too few frames with both a mouth and sound, or one of them does not change at all"
        return None
    doubt = "the mouth is still" if still else found.doubt
    if doubt is not None:
        missing["sync.offset_frames"] = doubt
    return SoundSync(
        correlation=found.correlation,
        best=found.best,
        offset_frames=None if doubt else found.lag,
        offset_seconds=None if doubt else found.lag / float(fps),
        chance=found.chance,
        doubt=doubt,
        lags=found.lags,
        curve=found.values,
    )


def _syncnet_score(
    network: SyncNet, frames: FrameSource, track: FaceTrack, waveform: Waveform, missing: dict[str, str], progress: Step
) -> SyncScore | None:
    from .syncnet import score_sync

    try:
        return score_sync(network, frames, track, waveform, progress)
    except InputError as error:
        missing["syncnet"] = str(error)
        return None


def _explain(found: Evaluation, loudness: Loudness | None, missing: dict[str, str]) -> None:
    """Reasons for what the clip and its sound did not give."""
    if found.motion is None:
        reason = f"a mouth is seen in {found.faces} of {found.frames} frames, too few to measure"
        missing.update(dict.fromkeys(("motion", "sync", "silent_motion"), reason))
    elif found.silent_motion is None and loudness is not None:
        missing["silent_motion"] = "the sound has no pause of 0.3 s or more with a face in it"
    if found.shake is None:
        missing["shake"] = "no three frames in a row show a usable face"
    if loudness is None:
        for field in ("sync", "silent_seconds", "silent_motion"):
            missing[field] = missing["audio"]


def _series(mouth: MouthSeries, loudness: Loudness | None) -> Series:
    count = len(mouth.opening)
    nothing = np.zeros(0)
    articulation = np.full(count, np.nan) if loudness is None else loudness.articulation
    silent = np.zeros(count, bool) if loudness is None else loudness.silent
    return Series(mouth.opening, articulation, silent, nothing, nothing, nothing)


def _open(stack: ExitStack, video: FrameSource | Path | str) -> FrameSource:
    return video if isinstance(video, FrameSource) else stack.enter_context(FrameSource.open(video))


def _check_fit(frames: FrameSource, other: FrameSource) -> None:
    sizes = [f"{clip.width}x{clip.height}" for clip in (frames, other)]
    if frames.size != other.size:
        raise InputError(f"the video is {sizes[0]} and the reference {sizes[1]}; scale one to the size of the other")
    if frames.fps != other.fps:
        raise InputError(
            f"the video has {float(frames.fps):.6g} frames a second and the reference {float(other.fps):.6g}; "
            "convert one to the rate of the other"
        )


def _open_sound(
    audio: AudioSource | Path | str | None, frames: FrameSource, missing: dict[str, str]
) -> AudioSource | None:
    """The sound; a video without any is still measured, a sound that was asked for has to be usable."""
    try:
        return open_sound(audio, frames)
    except InputError as error:
        if audio is not None:
            raise
        missing["audio"] = str(error)
        return None


def _open_syncnet(syncnet: SyncNet | Path | str | None, device: str | None, missing: dict[str, str]) -> SyncNet | None:
    if syncnet is None:
        missing["syncnet"] = _SYNCNET_HOW
        return None
    if "audio" in missing:
        missing["syncnet"] = missing["audio"]
        return None
    from ..models.load import resolve_device
    from ..models.syncnet import load_syncnet

    if isinstance(syncnet, (Path, str)):
        return load_syncnet(syncnet, resolve_device(device))
    return syncnet


def _track(frames: FrameSource, progress: Progress | None, stage: str) -> FaceTrack:
    # As found: smoothing would hide the jitter that is to be measured.
    return track_faces(frames, profile=Profile(smoothing=0), progress=_stage(progress, stage))


def _stage(progress: Progress | None, stage: str) -> Step:
    return no_step if progress is None else partial(progress, stage)


def _name(given: FrameSource | AudioSource | Path | str) -> str:
    path = given.path if isinstance(given, (FrameSource, AudioSource)) else given
    return "(in memory)" if path is None else str(path)
