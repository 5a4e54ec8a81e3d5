"""What is said, and by whom: sentences and voices in five languages, some of them kept from training.

A text ``texts/<language>.json`` holds ``training`` and ``held_out`` sentences, and ``words`` from which endless
training text is drawn. No sentence and no voice (base and variant) is in both parts; rates and pitches overlap.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import NamedTuple, TypedDict

import numpy as np

from ...audio.waveform import SAMPLE_RATE
from .espeak import Phoneme, Speech, Voice, speak

LANGUAGES = ("en", "de", "fr", "es", "it")

TRAINING_VARIANTS = (
    "f1", "f2", "f4", "m1", "m2", "m3", "m4", "m6", "m7", "klatt2", "klatt4",
    "adam", "Alicia", "Annie", "belinda", "boris", "Diogo", "Gene", "john", "linda", "max", "Mike", "steph", "victor",
)  # fmt: skip
HELD_OUT_VARIANTS = ("f3", "f5", "m5", "m8", "klatt3", "Andrea", "Michael", "shelby")

_BASES = {
    "en": ("en-us", "en-us", "en-gb-x-rp", "en-gb-scotland"),
    "de": ("de",),
    "fr": ("fr",),
    "es": ("es", "es-419"),
    "it": ("it",),
}
# English twice as often as each other language.
_LANGUAGE_WEIGHTS = np.array([2, 1, 1, 1, 1]) / 6

_RATES = (135, 190)
_PITCHES = (25, 75)
_RANGES = (30, 70)
_RANDOM_TEXTS = 0.5
_WORDS = (4, 11)
_COMMA = 0.12
_PAUSE = (0.1, 0.6)
_LEADING_PAUSE = 0.3


class _Texts(TypedDict):
    training: list[str]
    held_out: list[str]
    words: str


@cache
def texts(language: str) -> _Texts:
    """The sentences and words of a language of LANGUAGES."""
    path = resources.files(__package__) / "texts" / f"{language}.json"
    loaded: _Texts = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def training_line(rng: np.random.Generator) -> tuple[str, Voice]:
    """A sentence, or as often words in random order, and a voice of its language; endless."""
    language = _language(rng)
    return _training_text(language, rng), _voice(language, TRAINING_VARIANTS, rng)


def held_out_line(rng: np.random.Generator) -> tuple[str, Voice]:
    """A sentence and a voice that training never hears."""
    language = _language(rng)
    return _held_out_text(language, rng), _voice(language, HELD_OUT_VARIANTS, rng)


class Narration(NamedTuple):
    """A speech, its lines (the last one may be cut off), and who speaks."""

    speech: Speech
    lines: tuple[str, ...]
    voice: Voice


def utterance(seconds: float, rng: np.random.Generator, held_out: bool = False) -> Speech:
    """One voice saying line after line, 0.1 to 0.6 s apart, cut to exactly ``seconds``."""
    return narration(seconds, rng, held_out).speech


def narration(seconds: float, rng: np.random.Generator, held_out: bool = False) -> Narration:
    """The same as `utterance`, with what is said and by whom."""
    wanted = round(seconds * SAMPLE_RATE)
    language = _language(rng)
    voice = _voice(language, HELD_OUT_VARIANTS if held_out else TRAINING_VARIANTS, rng)
    next_text = _held_out_text if held_out else _training_text
    parts = [np.zeros(int(rng.uniform(0, _LEADING_PAUSE) * SAMPLE_RATE), np.float32)]
    phonemes = [Phoneme(0.0, "")]
    length = len(parts[0])
    lines: list[str] = []
    while length < wanted:
        lines.append(next_text(language, rng))
        line = speak(lines[-1], voice)
        start = length / SAMPLE_RATE
        phonemes += [Phoneme(start + phoneme.start, phoneme.ipa) for phoneme in line.phonemes]
        phonemes.append(Phoneme(start + line.duration, ""))
        pause = np.zeros(int(rng.uniform(*_PAUSE) * SAMPLE_RATE), np.float32)
        parts += [line.samples, pause]
        length += len(line.samples) + len(pause)
    samples = np.concatenate(parts)[:wanted]
    speech = Speech(samples, tuple(phoneme for phoneme in phonemes if phoneme.start < seconds))
    return Narration(speech, tuple(lines), voice)


def _language(rng: np.random.Generator) -> str:
    return LANGUAGES[rng.choice(len(LANGUAGES), p=_LANGUAGE_WEIGHTS)]


def _voice(language: str, variants: tuple[str, ...], rng: np.random.Generator) -> Voice:
    bases = _BASES[language]
    name = f"{bases[rng.integers(len(bases))]}+{variants[rng.integers(len(variants))]}"
    return Voice(name, int(rng.integers(*_RATES)), int(rng.integers(*_PITCHES)), int(rng.integers(*_RANGES)))


def _training_text(language: str, rng: np.random.Generator) -> str:
    known = texts(language)
    if rng.random() >= _RANDOM_TEXTS:
        return known["training"][rng.integers(len(known["training"]))]
    words = rng.choice(known["words"].split(), rng.integers(*_WORDS))
    return "".join(word + ("," if rng.random() < _COMMA else "") + " " for word in words).strip(", ") + "."


def _held_out_text(language: str, rng: np.random.Generator) -> str:
    sentences = texts(language)["held_out"]
    return sentences[rng.integers(len(sentences))]
