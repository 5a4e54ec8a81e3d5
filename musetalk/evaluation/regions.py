"""The part of each frame that lip sync may repaint, as far as it is known without the masks that were used."""

from __future__ import annotations

import numpy as np

from ..face.boxes import face_place
from ..face.masks import blending_crop
from ..face.track import FaceTrack
from ..profile import Profile


def mouth_regions(track: FaceTrack, size: tuple[int, int], profile: Profile | None = None) -> np.ndarray:
    """int32 ``[M, 4]``: x0 y0 x1 y1 of the lower half of the face; zeros where there is no valid face.

    The blurred paste mask stays inside the face box with its margin, and below the boundary row less half its blur;
    the rectangle is that, for the profile's numbers (v1.5's by default), and one frame's smoothing of the box wider.
    size: width, height of the frames.
    """
    profile = profile or Profile()
    width, height = size
    regions = np.zeros((len(track), 4), np.int32)
    for i in np.flatnonzero(track.valid).tolist():
        box = face_place(track, i, profile.extra_margin, size).box
        crop = blending_crop(box, profile.expand)
        side = crop[3] - crop[1]
        blur = int(profile.blur_ratio * side / 2) + 1
        # The tracks of a paste and of a measurement differ by the smoothing of landmarks.
        slack = max(2, (box[2] - box[0]) // 32)
        top = crop[1] + int(profile.upper_boundary_ratio * side) - blur
        x0, y0 = max(box[0] - slack, 0), max(top - slack, 0)
        x1, y1 = min(box[2] + slack, width), min(box[3] + slack, height)
        if x1 > x0 and y1 > y0:
            regions[i] = x0, y0, x1, y1
    return regions
