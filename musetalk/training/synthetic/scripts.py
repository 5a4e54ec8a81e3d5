"""What is said, and by whom: sentences and voices in five languages, in three parts that share none.

``training`` is what a model learns from, ``validation`` what it is watched with meanwhile, ``test`` what no training
meets in any way. A text ``texts/<language>.json`` holds the sentences of each part, and ``words`` from which endless
training text is drawn. A voice is a base and a variant; the variants are apart, rates and pitches overlap.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple, TypedDict, get_args

import numpy as np

from ...audio.waveform import SAMPLE_RATE
from .espeak import Phoneme, Speech, Voice, speak

Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

LANGUAGES = ("en", "de", "fr", "es", "it")

VARIANTS: dict[Part, tuple[str, ...]] = {
    "training": (
        "f1", "f2", "f4", "m1", "m2", "m3", "m4", "m6", "m7", "klatt2", "klatt4",
        "adam", "Alicia", "Annie", "belinda", "boris", "Diogo", "Gene", "john", "linda", "max", "Mike", "steph",
        "victor",
    ),
    "validation": ("f3", "f5", "m5", "m8", "klatt3", "Andrea", "Michael", "shelby"),
    "test": ("anika", "aunty", "benjamin", "caleb", "david", "Denis", "Lee", "Marco"),
}  # fmt: skip

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
    validation: list[str]
    test: list[str]
    words: str


@cache
def texts(language: str) -> _Texts:
    """The sentences and words of a language of LANGUAGES."""
    path = resources.files(__package__) / "texts" / f"{language}.json"
    loaded: _Texts = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def held_out_line(rng: np.random.Generator) -> tuple[str, Voice]:
    """A sentence and a voice of the test part."""
    language = _language(rng)
    return _text(language, "test", rng), _voice(language, "test", rng)


class Narration(NamedTuple):
    """A speech, its lines (the last one may be cut off), and who speaks."""

    speech: Speech
    lines: tuple[str, ...]
    voice: Voice


def utterance(seconds: float, rng: np.random.Generator, held_out: bool = False) -> Speech:
    """What a training hears, or with ``held_out`` what it is validated with; see `narration`."""
    return narration(seconds, rng, "validation" if held_out else "training").speech


def narration(seconds: float, rng: np.random.Generator, part: Part = "training") -> Narration:
    """One voice saying line after line, 0.1 to 0.6 s apart, cut to exactly ``seconds``.

    Language, voice and order of the lines follow from ``rng``; how many lines fit may differ by one from call to call,
    since `speak` is not repeatable to the sample.
    """
    wanted = round(seconds * SAMPLE_RATE)
    language = _language(rng)
    voice = _voice(language, part, rng)
    parts = [np.zeros(int(rng.uniform(0, _LEADING_PAUSE) * SAMPLE_RATE), np.float32)]
    phonemes = [Phoneme(0.0, "")]
    length = len(parts[0])
    lines: list[str] = []
    while length < wanted:
        lines.append(_text(language, part, rng))
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


def _voice(language: str, part: Part, rng: np.random.Generator) -> Voice:
    bases, variants = _BASES[language], VARIANTS[part]
    name = f"{bases[rng.integers(len(bases))]}+{variants[rng.integers(len(variants))]}"
    return Voice(name, int(rng.integers(*_RATES)), int(rng.integers(*_PITCHES)), int(rng.integers(*_RANGES)))


def _text(language: str, part: Part, rng: np.random.Generator) -> str:
    """A sentence of the part; of training, as often words in random order."""
    known = texts(language)
    if part != "training" or rng.random() >= _RANDOM_TEXTS:
        return known[part][rng.integers(len(known[part]))]
    words = rng.choice(known["words"].split(), rng.integers(*_WORDS))
    return "".join(word + ("," if rng.random() < _COMMA else "") + " " for word in words).strip(", ") + "."
