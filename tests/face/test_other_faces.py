"""A speaker's mask stays off everybody else's face."""

from __future__ import annotations

import numpy as np
import pytest

from musetalk import FrameSource, Profile
from musetalk.face.mask_maker import MaskMaker
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.faces import FaceSearch, Found

from . import people_clips as clips

COUNT = 40


@pytest.fixture(scope="module")
def crossing(mesh: FaceMesh) -> tuple[np.ndarray, list[clips.Truth], FaceSearch]:
    """Hopper passes behind the astronaut."""
    cast = [
        (clips.hopper(), clips.line((120, 150, 84), (520, 150, 84), COUNT)),
        (clips.astronaut(), clips.stay(320, 150, 84)),
    ]
    frames, truth = clips.compose(cast, COUNT, clips.textured(640, 360, seed=3))
    search = FaceSearch(FrameSource.from_array(frames), Profile(fade=0, max_covered=1), landmarks=MeshLandmarks(mesh))
    return frames, truth, search


def touched(found: Found, frames: np.ndarray, search: FaceSearch, other: np.ndarray) -> int:
    """How many pixels of the other's face (its box, a little smaller) the masks reach, over all frames."""
    valid = np.flatnonzero(found.track.valid).tolist()
    maker = MaskMaker(None, found.track, search.profile, search.frames.size, None, found.occluder)
    count = 0
    for index, mask in zip(valid, maker.make(valid, [frames[i] for i in valid]), strict=True):
        full = np.zeros(frames.shape[1:3], np.uint8)
        x0, y0, x1, y1 = mask.region
        full[y0:y1, x0:x1] = mask.alpha
        x0, y0, x1, y1 = other[index]
        inset = (x1 - x0) // 5
        count += np.count_nonzero(full[y0 + inset : y1 - inset, x0 + inset : x1 - inset])
    return count


def test_the_one_behind_does_not_paint_over_the_one_in_front(crossing) -> None:
    frames, truth, search = crossing
    behind, front = search.several([0, 1])
    assert touched(behind, frames, search, truth[1].boxes) == 0
    alone = Found(behind.person, behind.track, None)
    assert touched(alone, frames, search, truth[1].boxes) > 0  # without the others it would
    assert front.track.valid.all()
