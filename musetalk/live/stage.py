"""What is on screen: the footage going on underneath, and the mouth on top."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from ..playback import source_index
from .live_avatar import LiveAvatar
from .mouth import MouthFade
from .segment import SpokenFrame

HOLD_S = Fraction(3, 25)


class Stage:
    """The avatar of a session and where its footage stands.

    Positions count session frames of footage and only go up; played forward and backward in turn. A spoken frame is
    drawn before it is known when it will be shown: it reserves the position where the footage is expected to be then,
    and the footage waits there for it, so that speech never makes it jump.

    Where a spoken picture is missing, the last one is held for ``HOLD_S``, whole, as a video player does; only then
    the mouth closes. Closing it at once would have it flutter wherever every second picture is missing, and the held
    mouth on footage that moves on would sit beside the face. The footage goes on underneath, and what comes next is
    shown at its own place: nothing is put off.

    position: the one on screen. avatar: whose footage.
    """

    def __init__(self, avatar: LiveAvatar, fps: Fraction) -> None:
        self.avatar = avatar
        self.position = -1
        self._fps = fps
        self._reserved = -1
        self._fade = MouthFade()
        self._spoken: SpokenFrame | None = None
        self._held_for = 0

    @property
    def speaking(self) -> bool:
        """Whether the picture is that of the sound; not where it is held, or closed."""
        return self._spoken is not None and self._held_for == 0

    def become(self, avatar: LiveAvatar) -> None:
        """Another avatar from the next picture on; nothing of the old one is held over it."""
        self.avatar = avatar
        self._spoken = None
        self._fade = MouthFade(after_cut=True)

    def reserve(self, ahead: int) -> int:
        """The position of the next spoken frame, before which ``ahead`` frames are still to be shown."""
        self._reserved = max(self._reserved, self.position + ahead) + 1
        return self._reserved

    def silence(self) -> None:
        """Speech was cut off: nothing that was reserved or is held will be shown."""
        self._reserved = self.position
        self._spoken = None

    def show(self, spoken: SpokenFrame | None, awaited: int | None, *, heard: bool) -> None:
        """Go on by one frame: to the position of a spoken one, or by one at most up to the one ``awaited``.

        heard: a sound is played that should have a picture.
        """
        if spoken is not None:
            self.position = spoken.position
        elif awaited is None or self.position + 1 < awaited:
            self.position += 1
        if spoken is not None and spoken.picture is not None:
            self._spoken, self._held_for = spoken, 0
        elif heard and self._held_for < int(HOLD_S * self._fps):
            self._held_for += 1
        else:
            self._spoken = None

    def source(self, position: int) -> int:
        """The source frame at a position."""
        return source_index(int(position * self.avatar.fps / self._fps), len(self.avatar))

    def painter(self, *, cut: bool) -> Callable[[], np.ndarray]:
        """Makes what is on screen now, uint8 RGB ``[H, W, 3]``, in any thread, one at a time.

        cut: a mouth that is closed now was cut off, and does not fade.
        """
        avatar, fade, spoken = self.avatar, self._fade, self._spoken
        picture = None if spoken is None else spoken.picture
        source = self.source(self.position if spoken is None else spoken.position)

        def paint() -> np.ndarray:
            if cut:
                fade.cut()
            closed = avatar.idle_frame(source)
            return fade.rest(closed) if picture is None else fade.speak(picture, closed)

        return paint
