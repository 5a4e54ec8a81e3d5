"""Talking clips whose truth is known: a face, a speech, a take, and how far the mouth is open in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from ...errors import InputError
from .espeak import Speech
from .photos import photo_still
from .scene import Scene, framed, photograph
from .still import Still
from .take import Take
from .visemes import VISEMES, VisemeTrack, viseme_track
from .warp import Rendered, render


@dataclass(frozen=True, eq=False)
class Truth:
    """What each of N frames shows.

    openings, widths: float32 ``[N]``, of the mouth, in pixels of the still before the take moves it.
    poses: float32 ``[N, 6]``, see ``visemes.PARAMETERS``. shut: bool ``[N]``, inside a p, b or m.
    visemes: what is being said.
    """

    openings: np.ndarray
    widths: np.ndarray
    poses: np.ndarray
    shut: np.ndarray
    visemes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.openings)

    @property
    def spoken(self) -> slice:
        """The frames from the first sound to the last one.

        The silence before and after is alike in all clips, so that counting it makes unrelated clips correlate.
        """
        said = [index for index, name in enumerate(self.visemes) if name != "silence"]
        return slice(said[0], said[-1] + 1) if said else slice(0, 0)


@dataclass(frozen=True, eq=False)
class Clip:
    """A face that says something; frames are made when they are asked for.

    scene: the picture around the face crop. Frame i is taken at ``(i + 1/2) / fps`` seconds.
    """

    still: Still
    speech: Speech
    take: Take
    scene: Scene
    fps: Fraction

    def __post_init__(self) -> None:
        if not len(self):
            raise InputError(
                f"{self.speech.duration:.3f} s of speech are less than a frame at {float(self.fps):g} fps; say more"
            )

    def __len__(self) -> int:
        return len(self.track.poses)

    @cached_property
    def track(self) -> VisemeTrack:
        """What the mouth does."""
        return viseme_track(self.speech, self.fps)

    @property
    def times(self) -> np.ndarray:
        """Seconds at which the frames are taken, float64 ``[N]``."""
        return frame_times(len(self), self.fps)

    def talking(self) -> Iterator[Rendered]:
        """The crops in which the face speaks, as they are filmed, with the opening and width of the mouth."""
        for pose, time in zip(self.track.poses, self.times, strict=True):
            yield self._filmed(render(self.still, pose), time)

    def resting(self, *, as_found: bool = False) -> Iterator[Rendered]:
        """The same face, moving and lit in the same way, with its mouth at rest: a source to lip-sync.

        as_found: with the mouth that the picture has, which may smile; its opening and width are then NaN.
        """
        rest = render(self.still, VISEMES["silence"])
        if as_found:
            rest = Rendered(self.still.picture, np.nan, np.nan)
        for time in self.times:
            yield self._filmed(rest, time)

    def truth(self) -> Truth:
        """What `talking` shows; renders every frame."""
        mouths = [render(self.still, pose)[1:] for pose in self.track.poses]
        openings, widths = np.array(mouths, np.float32).T
        return Truth(openings, widths, self.track.poses, self.track.shut, self.track.names)

    def _filmed(self, rendered: Rendered, time: float) -> Rendered:
        return rendered._replace(image=self.take.apply(rendered.image, float(time)))


def make_clip(face: Still | str, speech: Speech, take: Take | None = None, fps: Fraction | int = 25) -> Clip:
    """A clip of a still, or of a bundled photograph by its name (one of ``photos.PHOTOS``).

    take: how it is filmed; by default with a fixed camera in the light of the still. Around a photograph's face there
        is the photograph, around another still a soft background; neither moves with the take.

    Raises InputError for an unknown photograph and for speech shorter than a frame.
    """
    take = Take() if take is None else take
    if isinstance(face, str):
        return Clip(photo_still(face), speech, take, photograph(face), Fraction(fps))
    return Clip(face, speech, take, framed(take.apply(face.picture, 0.0)), Fraction(fps))


def frame_times(count: int, fps: Fraction) -> np.ndarray:
    """Seconds at which frames are taken, float64 ``[count]``: the middle of the time each is shown."""
    return (np.arange(count) + 0.5) / float(fps)
