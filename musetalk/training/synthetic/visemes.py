"""Mouth shapes of speech: phonemes to six smooth curves, with lips that do shut on p, b and m.

A video frame i stands for the moment ``(i + 1/2) / fps``. That is also the middle of the 200 ms of sound the generator
hears with it (encoder steps ``2 i - 4 .. 2 i + 5`` at 25 fps, see ``audio.windows``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np

from ...audio.waveform import SAMPLE_RATE
from .espeak import Speech

PARAMETERS = ("jaw", "wide", "pucker", "press", "tuck", "tongue")
"""What a pose is made of: jaw open 0..1, corners stretched (1) or drawn in (-1), lips rounded 0..1, lips pressed shut
0..1 (p b m), lower lip under the upper teeth 0..1 (f v), tongue tip raised 0..1 (l n t d th)."""

_JAW, _PRESS, _TUCK = (PARAMETERS.index(name) for name in ("jaw", "press", "tuck"))

#                 jaw  wide  pucker press tuck tongue
_POSES = {
    "silence": (0.00, 0.00, 0.00, 0.25, 0.00, 0.00),
    "pbm": (0.00, 0.00, 0.05, 1.00, 0.00, 0.00),
    "bv": (0.08, 0.00, 0.05, 0.55, 0.00, 0.00),
    "fv": (0.05, 0.10, 0.00, 0.00, 1.00, 0.00),
    "th": (0.22, 0.10, 0.00, 0.00, 0.00, 0.90),
    "tdn": (0.20, 0.15, 0.00, 0.00, 0.00, 0.80),
    "kg": (0.28, 0.10, 0.00, 0.00, 0.00, 0.10),
    "sz": (0.10, 0.45, 0.00, 0.00, 0.00, 0.30),
    "sh": (0.15, -0.10, 0.65, 0.00, 0.00, 0.30),
    "l": (0.30, 0.10, 0.00, 0.00, 0.00, 0.95),
    "r": (0.20, -0.10, 0.45, 0.00, 0.00, 0.30),
    "w": (0.08, -0.30, 1.00, 0.00, 0.00, 0.00),
    "aa": (0.95, 0.05, 0.00, 0.00, 0.00, 0.00),
    "ae": (0.75, 0.45, 0.00, 0.00, 0.00, 0.00),
    "eh": (0.52, 0.35, 0.00, 0.00, 0.00, 0.10),
    "ih": (0.30, 0.45, 0.00, 0.00, 0.00, 0.15),
    "iy": (0.20, 0.80, 0.00, 0.00, 0.00, 0.20),
    "uh": (0.45, 0.00, 0.10, 0.00, 0.00, 0.00),
    "ao": (0.70, -0.20, 0.60, 0.00, 0.00, 0.00),
    "ow": (0.45, -0.30, 0.85, 0.00, 0.00, 0.00),
    "uw": (0.18, -0.30, 1.00, 0.00, 0.00, 0.00),
    "h": (0.35, 0.00, 0.00, 0.00, 0.00, 0.00),
}

VISEMES: dict[str, np.ndarray] = {name: np.array(pose, np.float32) for name, pose in _POSES.items()}
"""Viseme to pose, float32 ``[6]`` in the order of PARAMETERS. ``silence`` is a mouth closed but relaxed."""

_IPA_LETTERS = {
    "pbm": "pbmɓɱ",
    "bv": "βɸ",
    "fv": "fvʋⱱ",
    "th": "θð",
    "tdn": "tdnɾʈɖɳɲ",
    "kg": "kɡgŋxɣqχʁʀcɟç",
    "sz": "szɕʑ",
    "sh": "ʃʒʂʐ",
    "l": "lɭʎɫɬ",
    "r": "rɹɻɚɝɜ",
    "w": "wɥʍ",
    "aa": "aɑɐ",
    "ae": "æ",
    "eh": "eɛ",
    "ih": "ɪɨ",
    "iy": "ijʝʲ",
    "uh": "əʌɘᵻ",
    "ao": "ɔɒ",
    "ow": "oøœɵɤ",
    "uw": "uʊyʏɯʉ?",  # espeak-ng writes "??" for the German vowel of Turm
    "h": "hɦʔħ",
}
_VISEME_OF_LETTER = {letter: viseme for viseme, letters in _IPA_LETTERS.items() for letter in letters}

_GRID_RATE = 200
_LEAD = 0.02
_SHORTEST_CLOSURE = 0.05
_SMOOTHING = 0.11
_FAST_SMOOTHING = 0.05
_CLOSURE_ONSET = 0.03
_JAW_UNDER_PRESS = 0.55


@dataclass(frozen=True)
class VisemeTrack:
    """The mouth of a clip, frame by frame."""

    poses: np.ndarray
    """float32 ``[N, 6]`` in the order of PARAMETERS."""
    shut: np.ndarray
    """bool ``[N]``: frames inside a p, b or m, on which the lips touch (press is 1)."""
    names: tuple[str, ...]
    """The viseme being said at each frame."""


def viseme_track(speech: Speech, fps: Fraction | int = 25, lead: float = _LEAD) -> VisemeTrack:
    """The mouth at the centre of each of the ``N = floor(samples * fps / 16000)`` frames, as the engine counts them.

    lead: seconds by which the lips move ahead of the sound.
    """
    mouth = _Mouth(speech, lead)
    fps = Fraction(fps)
    # In whole numbers: 18560 samples are 29 frames at 25 fps, but 1.16 * 25 is a hair less.
    count = len(speech.samples) * fps.numerator // (SAMPLE_RATE * fps.denominator)
    times = (np.arange(count) + 0.5) / float(fps)
    return VisemeTrack(mouth.poses(times), mouth.shut(times), mouth.names(times))


def sampled_poses(speech: Speech, times: np.ndarray, lead: float = _LEAD) -> np.ndarray:
    """The same curves at any times (seconds), float32 ``[len(times), 6]``."""
    return _Mouth(speech, lead).poses(np.asarray(times, np.float64))


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """A pose somewhere between two visemes, one of them perhaps held back; float32 ``[6]``."""
    first, second = (list(VISEMES.values())[rng.integers(len(VISEMES))] for _ in range(2))
    share = rng.uniform(0, 1)
    return (first * share + second * (1 - share) * rng.uniform(0.4, 1)).astype(np.float32)


def under_press(poses: np.ndarray) -> np.ndarray:
    """Poses ``[..., 6]`` with the jaw raised as far as the lips are pressed: it does not hang under shut lips."""
    poses = poses.copy()
    poses[..., _JAW] *= 1 - _JAW_UNDER_PRESS * poses[..., _PRESS]
    return poses


def visemes_of(ipa: str) -> tuple[str, ...]:
    """What the lips do during one phoneme: one viseme, or two for diphthongs and affricates (``tʃ``, ``aɪ``).

    Length and tone marks are passed over; a sound with no known letter is said with a neutral mouth.
    """
    if not ipa:
        return ("silence",)
    found: list[str] = []
    for letter in ipa:
        viseme = _VISEME_OF_LETTER.get(letter)
        if viseme is not None and found[-1:] != [viseme]:
            found.append(viseme)
    return tuple(found) or ("uh",)


class _Span(NamedTuple):
    start: float
    end: float
    viseme: str


def _spans(speech: Speech, lead: float) -> Iterator[_Span]:
    """The visemes one after the other, in seconds, without gaps, from first sound to the end of the speech."""
    # "(en)" marks a switch of language, it is not a sound.
    sounds = [phoneme for phoneme in speech.phonemes if not phoneme.ipa.startswith("(")]
    ends = [phoneme.start for phoneme in sounds[1:]] + [speech.duration]
    for phoneme, end in zip(sounds, ends, strict=False):
        visemes = visemes_of(phoneme.ipa)
        cuts = np.linspace(phoneme.start, end, len(visemes) + 1) - lead
        for viseme, first, last in zip(visemes, cuts, cuts[1:], strict=False):
            yield _Span(float(first), float(last), viseme)


class _Mouth:
    """Curves of one speech, smoothed on a fine grid and read anywhere."""

    def __init__(self, speech: Speech, lead: float) -> None:
        spans = [span for span in _spans(speech, lead) if span.end > span.start]
        self._spans = spans
        self._starts = np.array([span.start for span in spans])
        # Smoothing alone would erase a p, b or m, which lasts 50 to 70 ms: closures are kept apart and laid on top.
        self._closures = np.array(
            [(span.start, max(span.end, span.start + _SHORTEST_CLOSURE)) for span in spans if span.viseme == "pbm"]
        ).reshape(-1, 2)
        count = ceil(speech.duration * _GRID_RATE) + 1
        raw = np.stack([VISEMES[name] for name in self.names(np.arange(count) / _GRID_RATE)])
        slow, fast = _smooth(raw, _SMOOTHING), _smooth(raw, _FAST_SMOOTHING)
        self._curves = slow
        self._curves[:, _PRESS] = fast[:, _PRESS]
        self._curves[:, _TUCK] = np.clip(1.3 * fast[:, _TUCK], 0, 1)

    def names(self, times: np.ndarray) -> tuple[str, ...]:
        """The viseme being said at each time."""
        indices = np.searchsorted(self._starts, times, side="right") - 1
        return tuple(self._spans[index].viseme if index >= 0 else "silence" for index in indices)

    def shut(self, times: np.ndarray) -> np.ndarray:
        """bool: inside a closure."""
        return self._outside_closure(times) == 0

    def poses(self, times: np.ndarray) -> np.ndarray:
        grid = np.arange(len(self._curves)) / _GRID_RATE
        poses = np.stack([np.interp(times, grid, curve) for curve in self._curves.T], axis=1)
        near = np.clip(1 - self._outside_closure(times) / _CLOSURE_ONSET, 0, 1)
        closing = near * near * (3 - 2 * near)
        poses[:, _PRESS] = np.maximum(poses[:, _PRESS], closing)
        poses[:, _TUCK] *= 1 - closing
        return under_press(poses).astype(np.float32)

    def _outside_closure(self, times: np.ndarray) -> np.ndarray:
        """Seconds to the nearest closure; 0 inside one."""
        if not len(self._closures):
            return np.full(len(times), np.inf)
        starts, ends = self._closures.T
        return np.maximum(0, np.maximum(starts - times[:, None], times[:, None] - ends)).min(axis=1)


def _smooth(curves: np.ndarray, seconds: float) -> np.ndarray:
    """Each column averaged under a Hann window, its ends held."""
    radius = round(seconds * _GRID_RATE / 2)
    window = np.hanning(2 * radius + 3)[1:-1]
    padded = np.pad(curves, ((radius, radius), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, window / window.sum(), "valid") for column in padded.T], axis=1)
