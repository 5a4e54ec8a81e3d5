"""Paste masks of frames, from whichever source the profile names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import InputError
from ..profile import Profile
from .boxes import Box, FacePlace, face_place
from .hard_mask import hard_mask, soft_mask, soften
from .labels import draw_hull, draw_oval
from .masks import PasteMask, Strength, blending_crop, cut_box
from .mattes import Mattes
from .parsing import MeshLabels, parse_crops
from .track import FaceTrack
from .upright import turn_points


def check_mask_source(profile: Profile, *, parser: bool, mask: bool) -> str:
    """The mask source a profile comes down to, ``auto`` resolved.

    parser: whether face parser weights are loaded. mask: whether the caller gives a mask. Raises InputError for a
    source, or a parsing mode, that these cannot serve.
    """
    source = profile.mask_source
    if source == "auto":
        source = "parser" if parser else "mesh"
    if source == "parser" and not parser:
        raise InputError(
            "mask_source 'parser' needs the face parser weights, which are not loaded; "
            "run `python -m musetalk download`, or use 'auto', 'mesh' or 'hull'"
        )
    if source == "mask" and not mask:
        raise InputError("mask_source 'mask' needs a mask and none was given; pass mask=..., or use 'auto'")
    if source in ("mesh", "hull") and profile.parsing_mode == "neck":
        raise InputError(
            "parsing_mode 'neck' needs the face parser weights (a drawn face has no neck class); "
            "run `python -m musetalk download` and leave mask_source at 'auto', or use 'jaw' or 'raw'"
        )
    return source


class MaskMaker:
    """Makes the paste masks of one track.

    mask: with mask source ``mask`` it is cut to the lower face and blurred like any other; beside another source it
    limits the paste as it is. occluder: white where something stands in front of the face; those pixels stay.
    """

    def __init__(
        self,
        parser: torch.nn.Module | None,
        track: FaceTrack,
        profile: Profile,
        size: tuple[int, int],
        mask: Mattes | None = None,
        occluder: Mattes | None = None,
    ) -> None:
        """size: width and height of the frames. Raises InputError for a mask source that cannot be served."""
        self._source = check_mask_source(profile, parser=parser is not None, mask=mask is not None)
        if self._source == "hull" and track.landmarks is None:
            raise InputError("mask_source 'hull' needs landmarks, and only boxes were given; use 'auto' or 'mesh'")
        self._parser = parser
        self._track = track
        self._profile = profile
        self._size = size
        self._mask = None if mask is None else mask.at_size(size)
        self._occluder = None if occluder is None else occluder.at_size(size)
        self._mesh_labels = MeshLabels()

    def make(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> list[PasteMask]:
        """Masks of valid frames. indices: frame numbers. frames: their pictures, uint8 RGB ``[H, W, 3]``."""
        given = _read(self._mask, indices)
        hidden = _read(self._occluder, indices)
        return [self._one(*each) for each in zip(indices, frames, given, hidden, strict=True)]

    def _one(self, index: int, frame: np.ndarray, given: np.ndarray | None, hidden: np.ndarray | None) -> PasteMask:
        profile = self._profile
        place = face_place(self._track, index, profile.extra_margin, self._size)
        crop = blending_crop(place.box, profile.expand)
        if self._source == "mask":
            assert given is not None
            soft = soften(cut_box(given, crop, place.turn), place.box, crop, profile)
        else:
            labels = self._labels(index, frame, place, crop)
            soft = soft_mask(hard_mask(labels, profile), place.box, crop, profile)
        strength = Strength(
            weight=float(self._track.weights[index]),
            allowed=None if self._source == "mask" else given,
            hidden=hidden,
        )
        return PasteMask.from_soft_mask(
            soft,
            place.box,
            crop,
            self._size,
            turn=place.turn,
            strength=strength,
            color_match=profile.color_match and not profile.parity,
        )

    def _labels(self, index: int, frame: np.ndarray, place: FacePlace, crop: Box) -> np.ndarray:
        if self._source == "parser":
            assert self._parser is not None
            return parse_crops(self._parser, [cut_box(frame, crop, place.turn)])[0]
        if self._source == "mesh":
            mesh = None if self._track.mesh is None else self._track.mesh[index]
            return self._mesh_labels.labels(frame, mesh, place.box, crop, place.turn)
        assert self._track.landmarks is not None
        landmarks = self._track.landmarks[index]
        if not np.isfinite(landmarks).all():
            return draw_oval(place.box, crop)
        return draw_hull(landmarks if place.turn is None else turn_points(landmarks, place.turn), crop)


def _read(mattes: Mattes | None, indices: Sequence[int]) -> Sequence[np.ndarray | None]:
    return [None] * len(indices) if mattes is None else list(mattes.read(indices))
