"""Pairs of frames and sound, in sync and out of sync, made of the samples of one batch.

Every sample stands in one pair of each kind: with its own sound, and with that of another sample. Both are embedded
once, so the second pair costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..models.syncnet import similarity
from .losses.sync import contrastive_loss

THRESHOLD = 0.5
"""Similarity from which a pair is taken to be in sync; the loss is symmetric about it."""
_NAMES = ("loss", "accuracy", "in_sync", "out_of_sync")


def draw_partners(keys: Sequence[str], starts: Tensor, least_shift: int, rng: np.random.Generator) -> np.ndarray:
    """For each sample the one whose sound it gets in its pair out of sync.

    keys: the samples' clips. starts: int64 ``[B]``, their first frames.
    Drawn from the samples of the same clip that lie ``least_shift`` frames away; only where there is none, from those
    of other clips: whether a voice belongs to a face could be told without looking at the lips.
    Returns int64 ``[B]``, -1 for a sample that has no partner.
    """
    clips = np.unique(np.asarray(keys), return_inverse=True)[1].reshape(-1)
    frames = starts.cpu().numpy()
    same = clips[:, None] == clips[None, :]
    shifted = np.abs(frames[:, None] - frames[None, :]) >= least_shift
    lots = rng.random(same.shape)
    lots = np.where(same, np.where(shifted, 1.0 + lots, -1.0), lots)
    return np.where(lots.max(axis=1) >= 0, lots.argmax(axis=1), -1)


def pair_similarities(visual: Tensor, audio: Tensor, partners: np.ndarray) -> tuple[Tensor, Tensor]:
    """Of samples that have a partner: with their own sound, and with the partner's; float32 ``[P]`` each.

    visual, audio: unit vectors ``[B, D]``. partners: see `draw_partners`.
    """
    paired = torch.from_numpy(np.flatnonzero(partners >= 0)).to(visual.device)
    others = torch.from_numpy(partners[partners >= 0]).to(visual.device)
    visual, audio = visual.float(), audio.float()
    return similarity(visual[paired], audio[paired]), similarity(visual[paired], audio[others])


def pair_loss(in_sync: Tensor, out_of_sync: Tensor) -> Tensor:
    """`contrastive_loss` of as many pairs in sync as out of sync; 0, and so are all gradients, where there are none."""
    if len(in_sync) == 0:
        return in_sync.sum()
    told = torch.cat((torch.ones_like(in_sync), torch.zeros_like(out_of_sync)))
    return contrastive_loss(torch.cat((in_sync, out_of_sync)), told)


@torch.no_grad()
def pair_sums(in_sync: Tensor, out_of_sync: Tensor) -> Tensor:
    """What `pair_means` needs, float32 ``[5]``; to be added over batches and processes."""
    count = 2 * len(in_sync)
    told = (in_sync >= THRESHOLD).sum() + (out_of_sync < THRESHOLD).sum()
    loss = pair_loss(in_sync, out_of_sync) * count
    return torch.stack((in_sync.new_tensor(count), loss, told.float(), 2 * in_sync.sum(), 2 * out_of_sync.sum()))


def pair_means(sums: Tensor) -> dict[str, float]:
    """``pairs``, how many; ``loss``; ``accuracy``, the share told rightly at `THRESHOLD`; ``in_sync`` and
    ``out_of_sync``, the mean similarities of either kind. All 0 where there are no pairs.
    """
    count, *totals = sums.tolist()
    means = [total / max(count, 1.0) for total in totals]
    return {**dict(zip(_NAMES, means, strict=True)), "pairs": count}
