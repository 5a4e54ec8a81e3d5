"""Faces whose mouths can be measured, and a recorded sentence whose sounds are known: what pictures are judged by.

``data/spoken/sentence.wav`` was spoken by libespeak-ng, in a voice and with words that musetalk-mini never heard in
training; ``sentence.json`` says when each of its sounds starts, and the same of other sentences, which are not there
to be heard. So nothing here needs espeak-ng.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from musetalk import Avatar, Models, decode_faces, inpaint, paste_back, prepare_avatar
from musetalk.audio.features import open_windows
from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import SAMPLE_RATE, load_waveform
from musetalk.latents import crop_face
from musetalk.training.synthetic.clips import Clip, Truth, make_clip
from musetalk.training.synthetic.drawn import draw_face
from musetalk.training.synthetic.espeak import Phoneme, Speech
from musetalk.training.synthetic.opening import OpeningProbe
from musetalk.training.synthetic.photos import PHOTOS, photo_still
from musetalk.training.synthetic.still import Still
from musetalk.training.synthetic.warp import render

SPOKEN = Path(__file__).parent / "data" / "spoken"
FACES = (*PHOTOS, "drawn")


@lru_cache
def sentence() -> Speech:
    """The recorded sentence; the array is shared, do not write to it."""
    waveform = load_waveform(AudioSource.open(SPOKEN / "sentence.wav"))
    try:
        samples = waveform.read(0, len(waveform))
    finally:
        waveform.close()
    return Speech(samples, _phonemes(_known()["phonemes"]))


def unheard() -> list[Speech]:
    """Other sentences, of which only the times of the sounds are there: the samples are zeros."""
    return [
        Speech(np.zeros(round(other["seconds"] * SAMPLE_RATE), np.float32), _phonemes(other["phonemes"]))
        for other in _known()["others"]
    ]


def later(speech: Speech, seconds: Fraction | float) -> Speech:
    """The same after a silence, which must be a whole number of samples."""
    count = round(seconds * SAMPLE_RATE)
    moved = tuple(Phoneme(phoneme.start + count / SAMPLE_RATE, phoneme.ipa) for phoneme in speech.phonemes)
    samples = np.concatenate([np.zeros(count, np.float32), speech.samples])
    return Speech(samples, (Phoneme(0.0, ""), *moved))


def talking_clip(face: str = "astronaut", speech: Speech | None = None, fps: Fraction | int = 25) -> Clip:
    """A clip of one of FACES, filmed with a fixed camera, that says the recorded sentence or another speech."""
    return make_clip(face if face in PHOTOS else _still(face), sentence() if speech is None else speech, fps=fps)


def true_openings(clip: Clip, frames: range) -> np.ndarray:
    """What these frames of a clip show, float64 ``[len(clip)]``; NaN in all others, which are not rendered."""
    found = np.full(len(clip), np.nan)
    for index in frames:
        found[index] = render(clip.still, clip.track.poses[index]).opening
    return found


def other_truths(face: str = "astronaut", fps: Fraction | int = 25) -> list[Truth]:
    return [talking_clip(face, speech, fps).truth() for speech in unheard()]


def resting_picture(clip: Clip) -> np.ndarray:
    """The whole picture with the mouth shut, uint8 RGB ``[H, W, 3]``."""
    return clip.scene.with_face(next(clip.resting()).image)


def lip_sync(
    models: Models, avatar: Avatar, speech: Speech, frames: range, fps: Fraction | int = 25, batch_size: int = 8
) -> np.ndarray:
    """These output frames of a still, uint8 RGB ``[n, H, W, 3]``: the stages one by one, no others computed."""
    windows = open_windows(models, AudioSource.from_array(speech.samples, SAMPLE_RATE), Fraction(fps))
    features = windows.gather(frames)
    windows.close()
    faces = decode_faces(models, inpaint(models, avatar, features, batch_size))
    return np.concatenate(list(paste_back(avatar, faces)))


def still_avatar(models: Models, clip: Clip) -> Avatar:
    return prepare_avatar(models, resting_picture(clip)[None])


def openings(frames: Sequence[np.ndarray] | np.ndarray, face: str, clip: Clip) -> np.ndarray:
    """How far the mouth is open in whole pictures of a clip's face, float64 ``[n]``, pixels of the 256 crop."""
    crops = [crop_face(frame, clip.scene.box) for frame in frames]
    return _probe(face).measure(crops, np.zeros(len(crops))).astype(np.float64)


@lru_cache
def _still(face: str) -> Still:
    return photo_still(face) if face in PHOTOS else draw_face(np.random.default_rng(3))


@lru_cache
def _probe(face: str) -> OpeningProbe:
    return OpeningProbe(_still(face))


@lru_cache
def _known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads((SPOKEN / "sentence.json").read_text(encoding="utf-8"))
    return known


def _phonemes(pairs: list[tuple[float, str]]) -> tuple[Phoneme, ...]:
    return tuple(Phoneme(start, ipa) for start, ipa in pairs)
