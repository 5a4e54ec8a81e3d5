"""The sounds of a job: opened once each, heard by the speakers, and mixed for the result."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .audio.features import open_windows
from .audio.mixing import MixedAudio
from .audio.source import AudioSource
from .audio.windows import AudioWindows
from .errors import InputError
from .video.frames import FrameSource

if TYPE_CHECKING:
    from .models import Models


class Sounds:
    """The sound of each speaker, in their order; speakers who were given the same one share it.

    sources: every sound once.
    """

    def __init__(self, audios: Sequence[Any], frames: FrameSource) -> None:
        """audios: as :func:`open_sound` takes them. Raises InputError for one that cannot be used."""
        self._keys = [_key(audio) for audio in audios]
        distinct = dict(zip(self._keys, audios, strict=True))
        self._opened = {key: open_sound(audio, frames) for key, audio in distinct.items()}
        self.sources = list(self._opened.values())

    @property
    def mixed(self) -> AudioSource:
        """All of them together."""
        return self.sources[0] if len(self.sources) == 1 else MixedAudio(self.sources)

    def windows(
        self, stack: ExitStack, models: Models, frames: FrameSource, parity: bool, check_cancelled: Callable[[], None]
    ) -> list[AudioWindows]:
        """The windows of each speaker, closed with ``stack``."""
        ready: dict[Hashable, AudioWindows] = {}
        for key, source in self._opened.items():
            ready[key] = open_windows(models, source, frames.fps, parity=parity, check_cancelled=check_cancelled)
            stack.callback(ready[key].close)
        return [ready[key] for key in self._keys]


def open_sound(audio: Any, frames: FrameSource) -> AudioSource:
    """The driving sound: an AudioSource as it is, a path opened, None for the footage's own. Raises InputError."""
    if isinstance(audio, AudioSource):
        return audio
    if audio is not None:
        return AudioSource.open(audio)
    if frames.path is None or frames.path.is_dir():
        raise InputError("no sound was given and the footage has none; pass audio=...")
    return AudioSource.open(frames.path)


def _key(audio: Any) -> Hashable:
    return str(Path(audio).resolve()) if isinstance(audio, (str, Path)) else id(audio)
