"""What is on screen: the footage going on underneath, and the mouth on top."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from ..playback import source_index
from .live_avatar import LiveAvatar
from .mouth import MouthFade


class Stage:
    """The avatar of a session and where its footage stands.

    Positions count session frames of footage and only go up; played forward and backward in turn. A spoken frame is
    drawn before it is known when it will be shown: it reserves the position after the last reserved one, and the
    footage waits there for it, so that speech never makes it jump.

    position: the one on screen. avatar: whose footage.
    """

    def __init__(self, avatar: LiveAvatar, fps: Fraction) -> None:
        self.avatar = avatar
        self.position = -1
        self._fps = fps
        self._reserved = -1
        self._fade = MouthFade()

    def reserve(self) -> int:
        """The position of the next spoken frame."""
        self._reserved = max(self._reserved, self.position) + 1
        return self._reserved

    def forget_reserved(self) -> None:
        """Nothing that was reserved will be shown."""
        self._reserved = self.position

    def show(self, spoken: int | None, awaited: int | None) -> None:
        """Go on by one frame: to the position of a spoken one, or by one at most up to the one ``awaited``."""
        if spoken is not None:
            self.position = spoken
        elif awaited is None or self.position + 1 < awaited:
            self.position += 1

    def source(self, position: int) -> int:
        """The source frame at a position."""
        return source_index(int(position * self.avatar.fps / self._fps), len(self.avatar))

    def painter(self, picture: np.ndarray | None, *, cut: bool) -> Callable[[], np.ndarray]:
        """Makes what is on screen now, uint8 RGB ``[H, W, 3]``, in any thread, one at a time.

        picture: the spoken frame, None for a closed mouth. cut: close it at once, without fading.
        """
        avatar, source = self.avatar, self.source(self.position)

        def paint() -> np.ndarray:
            if cut:
                self._fade.cut()
            closed = avatar.idle_frame(source)
            return self._fade.rest(closed) if picture is None else self._fade.speak(picture, closed)

        return paint
