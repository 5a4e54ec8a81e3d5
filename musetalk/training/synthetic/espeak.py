"""Speech whose phonemes are known to the millisecond: libespeak-ng, called in process.

The command-line program prints phoneme times only for voices that need extra data; the library reports them for all.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...audio.resampling import resampled
from ...audio.waveform import SAMPLE_RATE
from ...errors import InputError, MuseTalkError

_LIBRARIES = {
    "linux": ("libespeak-ng.so.1",),
    # Neither installer puts its folder where the loader of every Python looks.
    "darwin": ("libespeak-ng.dylib", "/opt/homebrew/lib/libespeak-ng.dylib", "/usr/local/lib/libespeak-ng.dylib"),
    "win32": ("libespeak-ng.dll", r"C:\Program Files\eSpeak NG\libespeak-ng.dll"),
}
_MISSING = (
    "espeak-ng is not installed (no library {names}); install it: `apt install espeak-ng`, `brew install espeak-ng`, "
    "or on Windows the installer from https://github.com/espeak-ng/espeak-ng/releases"
)

# Names and values of espeak-ng/speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS, _INITIALIZE_PHONEME_IPA, _INITIALIZE_DONT_EXIT = 0x1, 0x2, 0x8000
_EVENT_LIST_TERMINATED, _EVENT_PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_LIMITS = {"rate": (80, 450), "pitch": (0, 100), "range": (0, 100)}
_CHARS_UTF8 = 1
_POS_CHARACTER = 1


class Phoneme(NamedTuple):
    """One sound of a language; it lasts until the next one starts."""

    start: float
    """Seconds from the first sample."""
    ipa: str
    """IPA letters; empty for a pause."""


@dataclass(frozen=True)
class Speech:
    """A spoken text."""

    samples: np.ndarray
    """float32 mono in [-1, 1] at 16 kHz."""
    phonemes: tuple[Phoneme, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / SAMPLE_RATE


@dataclass(frozen=True)
class Voice:
    """Who speaks: an espeak-ng voice, with a variant after a plus sign (``en-us+f2``), and how."""

    name: str
    rate: int = 170
    """Words per minute, 80 to 450."""
    pitch: int = 50
    """0 to 100."""
    range: int = 50
    """How far the pitch moves, 0 (monotone) to 100."""


def speak(text: str, voice: Voice) -> Speech:
    """The text as sound, with the start of each phoneme.

    The sound is not repeatable to the sample: espeak-ng carries noise and pitch flutter from call to call, which moves
    phonemes by up to 10 ms. Calls from several threads wait for each other.

    Raises InputError for an empty text, a voice this machine lacks and settings out of range; MuseTalkError where
    espeak-ng is not installed.
    """
    if not text.strip() or "\0" in text:
        raise InputError(f"nothing to speak in {text!r}; give at least one word, without NUL characters")
    with _LOCK:
        pcm, rate, phonemes = _synthesize(text, voice)
    if not len(pcm):
        raise InputError(f"espeak-ng voice {voice.name!r} made no sound of {text!r}; give it words of its language")
    sound = pcm.astype(np.float32)[None] / 32768
    # The resampler may overshoot full scale by a hair.
    samples = np.concatenate(list(resampled(iter([sound]), rate, SAMPLE_RATE)), axis=1)[0].clip(-1, 1)
    return Speech(samples, phonemes)


_LOCK = threading.Lock()


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class _VoiceRecord(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Library(NamedTuple):
    calls: Any
    rate: int
    variants: frozenset[str]


@lru_cache(maxsize=1)
def _library() -> _Library:
    """The library, initialised once: 1.51 may hang in speaking after ``espeak_Terminate`` and a second start."""
    names = _LIBRARIES.get(sys.platform, _LIBRARIES["linux"])
    calls = None
    for candidate in (*names, ctypes.util.find_library("espeak-ng")):
        if candidate is None:
            continue
        try:
            calls = ctypes.CDLL(candidate)
            break
        except OSError:
            continue
    if calls is None:
        raise MuseTalkError(_MISSING.format(names=" or ".join(names)))
    options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_PHONEME_IPA | _INITIALIZE_DONT_EXIT
    rate = calls.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, None, options)
    if rate <= 0:
        raise MuseTalkError(f"espeak-ng ({calls._name}) cannot find its voice data; install the espeak-ng-data package")
    calls.espeak_Synth.argtypes = (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    calls.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRecord))
    records = calls.espeak_ListVoices(ctypes.byref(_VoiceRecord(languages=b"variant")))
    variants = set()
    for record in records:
        if not record:
            break
        # "!v/f2", with the path separator of the system.
        variants.add(record.contents.identifier.decode()[len("!v/") :])
    return _Library(calls, rate, frozenset(variants))


def _synthesize(text: str, voice: Voice) -> tuple[np.ndarray, int, tuple[Phoneme, ...]]:
    """int16 samples ``[n]``, their rate in Hz, and the phonemes."""
    calls, rate, _ = _library()
    _select(voice)
    blocks: list[np.ndarray] = []
    phonemes: list[Phoneme] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                phonemes.append(Phoneme(event.sample / rate, event.id.string.decode("utf-8", "ignore")))
            index += 1
        return 0

    callback = _SynthCallback(receive)  # The library keeps a bare pointer: this name must outlive the synthesis.
    calls.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    failed = calls.espeak_Synth(encoded, len(encoded) + 1, 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None)
    calls.espeak_Synchronize()
    if failed:
        raise MuseTalkError(f"espeak-ng failed (error {failed}) to speak {text!r} as {voice.name!r}")
    pcm = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    return pcm, rate, tuple(phonemes)


def _select(voice: Voice) -> None:
    """Make the library speak as this voice, or raise: on its own it would go on with the one before."""
    calls, _, variants = _library()
    base, _, variant = voice.name.partition("+")
    # An unknown variant is no error to the library: it speaks as the plain voice.
    known = base.strip() and "\0" not in base and (variant in variants or "+" not in voice.name)
    if not known or calls.espeak_SetVoiceByName(voice.name.encode()):
        raise InputError(
            f"espeak-ng has no voice {voice.name!r}; `espeak-ng --voices` lists languages, "
            f"`espeak-ng --voices=variant` what may follow a plus sign"
        )
    settings = {"rate": voice.rate, "pitch": voice.pitch, "range": voice.range}
    for name, value in settings.items():
        low, high = _LIMITS[name]
        if not low <= value <= high:
            raise InputError(f"voice {name} {value} is outside {low}..{high}; choose one inside")
    for parameter, value in zip((_RATE, _PITCH, _RANGE), settings.values(), strict=True):
        calls.espeak_SetParameter(parameter, value, 0)
