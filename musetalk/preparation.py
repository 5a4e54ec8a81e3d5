"""What the footage alone decides: latents and paste mask of every frame with a face."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch

from .face.boxes import face_place
from .face.mask_maker import MaskMaker
from .face.masks import PasteMask
from .face.mattes import Mattes
from .face.track import FaceTrack
from .latents import crop_face, encode_faces
from .profile import Profile

if TYPE_CHECKING:
    from .models import Models


LATENT_SHAPE = (8, 32, 32)
_LATENT_BYTES = 4 * 8 * 32 * 32


@dataclass(frozen=True)
class FaceMaterial:
    """One frame's part of an avatar: scaled latents, float32 ``[8, 32, 32]``, and its paste mask."""

    latents: torch.Tensor
    mask: PasteMask


class Preparer:
    """Makes :class:`FaceMaterial` from frames, in batches.

    With ``vae_sampling="sample"`` the draws follow the order of the calls, so a clip is prepared front to back.
    """

    def __init__(
        self,
        models: Models,
        track: FaceTrack,
        profile: Profile,
        size: tuple[int, int],
        *,
        mask: Mattes | None = None,
        occluder: Mattes | None = None,
    ) -> None:
        """size: width and height of the frames. mask, occluder: see :class:`MaskMaker`.

        What masks need is checked when the first are made, since latents do without; ``check_mask_source`` asks
        beforehand.
        """
        self._models = models
        self._track = track
        self._profile = profile
        self._size = size
        self._mattes = mask, occluder
        sampled = profile.vae_sampling == "sample"
        self._noise = torch.Generator().manual_seed(profile.seed) if sampled else None

    def prepare(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> list[FaceMaterial]:
        """Material of valid frames. indices: frame numbers. frames: their pictures, uint8 RGB ``[H, W, 3]``.

        Raises InputError for a mask source or parsing mode that the models, the track or the mattes cannot serve.
        """
        masks = self._mask_maker.make(indices, frames)
        latents = self.latents_of(indices, frames)
        return [FaceMaterial(*pair) for pair in zip(latents, masks, strict=True)]

    def latents_of(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Scaled latents of valid frames, float32 ``[n, 8, 32, 32]``."""
        places = [face_place(self._track, index, self._profile.extra_margin, self._size) for index in indices]
        crops = [crop_face(frame, place.box, place.turn) for frame, place in zip(frames, places, strict=True)]
        return encode_faces(self._models, np.stack(crops), self._noise)

    @cached_property
    def _mask_maker(self) -> MaskMaker:
        return MaskMaker(self._models.face_parser, self._track, self._profile, self._size, *self._mattes)


@dataclass(frozen=True)
class _Kept:
    offset: int
    packed_size: int
    mask: PasteMask


class SpooledMaterial:
    """Material made when a frame is first shown and, if frames come again, kept in a temporary file.

    Memory does not grow with the clip: only offsets stay in it.
    """

    def __init__(self, preparer: Preparer, *, keep: bool) -> None:
        self._preparer = preparer
        # Held open for the object's whole life and closed by close(); a with-block cannot span it.
        self._spool = tempfile.TemporaryFile() if keep else None  # noqa: SIM115
        self._kept: dict[int, _Kept] = {}

    def material(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> list[FaceMaterial]:
        """Material of valid frames, in the order of ``indices``; ``frames`` are their pictures."""
        known = {index: self._read(index) for index in indices if index in self._kept}
        missing = {index: frame for index, frame in zip(indices, frames, strict=True) if index not in known}
        if missing:
            made = self._preparer.prepare(list(missing), list(missing.values()))
            for index, item in zip(missing, made, strict=True):
                known[index] = item
                self._write(index, item)
        return [known[index] for index in indices]

    def _write(self, index: int, item: FaceMaterial) -> None:
        if self._spool is None:
            return
        offset = self._spool.seek(0, 2)
        self._spool.write(item.latents.numpy().tobytes())
        self._spool.write(item.mask.packed)
        self._kept[index] = _Kept(offset, len(item.mask.packed), replace(item.mask, packed=b""))

    def _read(self, index: int) -> FaceMaterial:
        kept = self._kept[index]
        assert self._spool is not None
        self._spool.seek(kept.offset)
        latents = np.frombuffer(self._spool.read(_LATENT_BYTES), dtype=np.float32).reshape(LATENT_SHAPE)
        packed = self._spool.read(kept.packed_size)
        return FaceMaterial(torch.from_numpy(latents.copy()), replace(kept.mask, packed=packed))

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> SpooledMaterial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
