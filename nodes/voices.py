"""Who says what: the sound inputs of Lip Sync Video as the engine's speakers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..musetalk.audio.source import AudioSource
from ..musetalk.errors import InputError
from ..musetalk.speakers import Speaker, parse_speaker_map
from .host.media import open_sound, own_sound

_MAP = "speaker_map"


def check_map(text: str) -> str | None:
    """What is wrong with a speaker map; None when it can be used, or says nothing."""
    try:
        if text.strip():
            parse_speaker_map(text, _MAP, name=_MAP)
    except InputError as error:
        return str(error)
    return None


def read_voices(
    video: Any, audio: Any, voices: Sequence[Any], text: str
) -> tuple[AudioSource | None, list[Speaker] | None]:
    """The one sound of everything, None for the video's own; or who says what.

    voices: an AUDIO or None for each person by index. text: the speaker map, for several people in ``audio``.
    Raises InputError for inputs that contradict each other.
    """
    speaking = {index: voice for index, voice in enumerate(voices) if voice is not None}
    named = ", ".join(f"speaker_{index}" for index in speaking)
    if text.strip():
        if speaking or audio is None:
            problem = f"leave out {named}" if speaking else "connect audio"
            raise InputError(f"{_MAP} says who speaks when in the audio input; {problem}, or empty {_MAP}")
        return None, parse_speaker_map(text, open_sound(audio), name=_MAP)
    if not speaking:
        return own_sound(video) if audio is None else open_sound(audio), None
    if audio is not None:
        raise InputError(
            f"audio and {named} are connected; audio is one sound for one face, so connect one or the other"
        )
    return None, [Speaker(index, open_sound(voice)) for index, voice in speaking.items()]
