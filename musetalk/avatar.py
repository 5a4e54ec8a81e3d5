"""The avatar: everything about the footage that does not depend on the sound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import AvatarError
from .face.mask_maker import check_mask_source
from .face.masks import PasteMask
from .face.mattes import open_mattes
from .face.selection import PersonSelect
from .face.sources import LandmarkSource
from .face.track import FaceTrack
from .faces import FaceSearch, Progress
from .preparation import LATENT_SHAPE, FaceMaterial, Preparer
from .profile import Profile
from .video.frames import FrameSource

if TYPE_CHECKING:
    from .models import Models

FORMAT_VERSION = 2
_PREPARE_BATCH = 8
# Half precision moves scaled latents by about 0.01; another VAE, by about 1.
_SAME_VAE = 0.2


@dataclass(frozen=True)
class Avatar:
    """Prepared footage: drive it with any number of sounds.

    frames: the footage, ``M`` frames. track: the face in each. profile: the settings it was prepared with.
    latents: float32 ``[V, 8, 32, 32]``, scaled, masked copy first, for the ``V`` frames with a face.
    masks: ``V`` paste masks. rows: int64 ``[M]``, row of each frame in ``latents`` and ``masks``, -1 without a face.
    """

    frames: FrameSource
    track: FaceTrack
    profile: Profile
    latents: torch.Tensor
    masks: tuple[PasteMask, ...]
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        valid = self.track.valid
        object.__setattr__(self, "rows", np.where(valid, np.cumsum(valid) - 1, -1))
        if not len(self.latents) == len(self.masks) == int(valid.sum()) or len(valid) != len(self.frames):
            raise AvatarError(
                f"avatar parts disagree: {len(self.frames)} frames, {len(valid)} tracked, {int(valid.sum())} with a "
                f"face, {len(self.latents)} latents, {len(self.masks)} masks; prepare it again"
            )

    def latents_of(self, indices: Sequence[int]) -> torch.Tensor:
        """Latents of source frames with a face, float32 ``[n, 8, 32, 32]``."""
        return self.latents[torch.from_numpy(self.rows[np.asarray(indices, dtype=np.int64)])]

    def mask_of(self, index: int) -> PasteMask | None:
        """Paste mask of a source frame, None where it has no face."""
        row = self.rows[index]
        return None if row < 0 else self.masks[row]

    def material(self, indices: Sequence[int], frames: Sequence[np.ndarray]) -> list[FaceMaterial]:
        """Latents and masks of frames with a face, in the order of ``indices``; ``frames`` are not needed here."""
        rows = self.rows[np.asarray(indices, dtype=np.int64)]
        return [FaceMaterial(self.latents[row], self.masks[row]) for row in rows]

    def content_hash(self) -> str:
        """SHA-256 over the footage, the track, the settings and the masks: equal hashes give equal avatars."""
        return content_hash(self.frames.content_hash(), self.track, self.profile, self.masks)


def content_hash(footage_hash: str, track: FaceTrack, profile: Profile, masks: Sequence[PasteMask]) -> str:
    digest = hashlib.sha256(f"{FORMAT_VERSION} {footage_hash} ".encode())
    digest.update(json.dumps(profile.to_dict(), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(track.boxes, dtype="<i4").tobytes())
    digest.update(np.ascontiguousarray(track.valid, dtype=np.uint8).tobytes())
    if track.turns is not None:
        digest.update(np.ascontiguousarray(track.turns, dtype="<f4").tobytes())
    for mask in masks:
        digest.update(repr(mask.region).encode())
        digest.update(mask.alpha.tobytes())
    return digest.hexdigest()


def check_avatar(models: Models, avatar: Avatar) -> None:
    """Refuse an avatar that was prepared for other models: another version, or another VAE.

    One frame is encoded again and compared, which finds a changed VAE whatever its file is called. Raises AvatarError.
    """
    if avatar.profile.version != models.version:
        raise AvatarError(
            f"the avatar was prepared for MuseTalk {avatar.profile.version}, the models are {models.version}; "
            f"prepare it again, or load the models with version={avatar.profile.version!r}"
        )
    index = int(np.flatnonzero(avatar.track.valid)[0])
    fresh = Preparer(models, avatar.track, avatar.profile, avatar.frames.size).latents_of(
        [index], [avatar.frames[index]]
    )
    difference = (fresh - avatar.latents_of([index])).abs().mean().item()
    if difference > _SAME_VAE:
        raise AvatarError(
            f"the avatar's latents are not those of this VAE (mean difference {difference:.2f}); prepare it again"
        )


def as_frame_source(frames: Any) -> FrameSource:
    """A FrameSource as it is; a uint8 RGB array ``[M, H, W, 3]`` wrapped at 25 fps."""
    return frames if isinstance(frames, FrameSource) else FrameSource.from_array(frames)


def prepare_avatar(
    models: Models,
    frames: Any,
    boxes: Any = None,
    profile: Profile | None = None,
    *,
    landmarks: LandmarkSource | None = None,
    select: PersonSelect = "largest",
    mask: Any = None,
    occluder: Any = None,
    progress: Progress | None = None,
) -> Avatar:
    """Prepare footage once for any number of sounds.

    frames: FrameSource, or uint8 RGB ``[M, H, W, 3]``. boxes: int ``[M, 4]``, x0 y0 x1 y1 by the box rule, before the
    extra margin; None finds the face with the built-in detector. profile: default is the models' version.
    landmarks: another landmark source.
    select: whose face: ``"largest"`` or the point ``(x, y)`` it is nearest to in the first frame that shows one; or,
    among all people of the clip, an index, ``"smallest"``, ``"left"``, ``"right"``, ``"center"``, or a reference
    picture, uint8 RGB ``[H, W, 3]``.
    mask, occluder: what may be redrawn, and what stands in front of the face, white in each: Mattes, a path, or an
    array ``[M, H, W]``, uint8 or 0..1, for every frame or one for all.
    progress(done, total) counts frames tracked, then frames encoded; an exception it raises stops the work.
    Raises NoFaceError when no frame shows a usable face, InputError for boxes that do not fit the frames.
    """
    source = as_frame_source(frames)
    profile = profile or Profile.for_version(models.version)
    total = 2 * len(source)
    tracked: Progress | None = None if progress is None else (lambda done, _: progress(done, total))
    with ExitStack() as stack:
        mask, occluder = (open_mattes(stack, mattes, source) for mattes in (mask, occluder))
        check_mask_source(profile, parser=models.face_parser is not None, mask=mask is not None)
        search = FaceSearch(source, profile, boxes, landmarks, occluder=occluder)
        found = search.one(select, tracked)
        track = found.track
        preparer = Preparer(models, track, profile, source.size, mask=mask, occluder=found.occluder)
        valid = [int(index) for index in np.flatnonzero(track.valid)]
        latents = torch.empty(len(valid), *LATENT_SHAPE)
        masks: list[PasteMask] = []
        for start in range(0, len(valid), _PREPARE_BATCH):
            batch = valid[start : start + _PREPARE_BATCH]
            for row, item in enumerate(preparer.prepare(batch, list(source.read(batch))), start):
                latents[row] = item.latents
                masks.append(item.mask)
            if progress is not None:
                progress(len(source) + batch[-1] + 1, total)
    return Avatar(source, track, profile, latents, tuple(masks))
