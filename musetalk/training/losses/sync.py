"""The sync loss: SyncNet, frozen, has to find that the made lips say the sound (spec section 8.5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...models.syncnet import FRAMES, SyncNet, similarity, stack_lower_halves

# Below this similarity the logarithm is continued by its tangent, of slope -10.
_TANGENT_BELOW = 0.1


class SyncLoss(nn.Module):
    """How far the frames are from saying the sound.

    syncnet: frozen here.
    upstream: see `mismatch_loss`.
    """

    def __init__(self, syncnet: SyncNet, *, upstream: bool = False) -> None:
        super().__init__()
        self.syncnet = syncnet.requires_grad_(False)
        self.upstream = upstream

    def forward(self, frames: Tensor, mel: Tensor) -> Tensor:
        """
        frames: float [16 B, 3, 256, 256], RGB in [-1, 1], the 16 consecutive frames of a sample after one another.
        mel: float [B, 80, 52] or [B, 1, 80, 52] of the same frames, see `musetalk.audio.sync_mel`.
        Returns a scalar. Raises InputError when the frames are not 16 for each sound.
        """
        if len(frames) != FRAMES * len(mel):
            raise InputError(
                f"the sync loss got {len(frames)} frames for {len(mel)} sounds; SyncNet takes {FRAMES} frames each: "
                f"set frames per sample to {FRAMES} or the sync weight to 0"
            )
        with torch.no_grad():
            audio = self.syncnet.embed_mel(mel.reshape(-1, 1, *mel.shape[-2:]))
        visual = self.syncnet.embed_frames(stack_lower_halves(frames.unflatten(0, (-1, FRAMES))))
        return mismatch_loss(similarity(visual, audio), upstream=self.upstream)


def mismatch_loss(similarities: Tensor, *, upstream: bool = False) -> Tensor:
    """The mean of -log(similarity), a scalar; similarities: float [B], -1 to 1.

    upstream: clamp the similarity to [0, 1] first. Then the loss gives no gradient from a negative similarity, and
        one that grows without bound towards 0, where lips that match the sound badly lie.
    Otherwise -log(s) is followed down to s = 0.1 and its tangent below that: the same for lips that roughly match,
    a gradient everywhere, nowhere steeper than 10.
    """
    if upstream:
        return contrastive_loss(similarities, torch.ones_like(similarities))
    matching = similarities.float().clamp(max=1.0)
    logarithm = -matching.clamp(min=_TANGENT_BELOW).log()
    tangent = -math.log(_TANGENT_BELOW) + (_TANGENT_BELOW - matching) / _TANGENT_BELOW
    return torch.where(matching < _TANGENT_BELOW, tangent, logarithm).mean()


def contrastive_loss(similarities: Tensor, in_sync: Tensor) -> Tensor:
    """What SyncNet itself is trained on, as LatentSync does: cross entropy on the similarity as a probability.

    similarities: float [B] of `musetalk.models.syncnet.similarity`.
    in_sync: float or bool [B], 1 where frames and sound belong together.
    Returns a scalar, computed in float32 whatever autocast says. Similarities outside [0, 1], which rounding alone
    can give, count as 0 and 1.
    """
    with torch.autocast(similarities.device.type, enabled=False):
        return F.binary_cross_entropy(similarities.float().clamp(0.0, 1.0), in_sync.float())
