"""S3FD, the single-shot face detector that upstream asks whether a frame shows a face (spec section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32, 64, 128)


class S3FD(nn.Module):
    """VGG-16 with six detection heads; attribute names are those of the published state dict.

    operations: the namespace the convolutions come from (see `layers`).
    """

    def __init__(self, *, operations: Any = nn) -> None:
        super().__init__()
        conv = operations.Conv2d
        self.conv1_1 = conv(3, 64, 3, padding=1)
        self.conv1_2 = conv(64, 64, 3, padding=1)
        self.conv2_1 = conv(64, 128, 3, padding=1)
        self.conv2_2 = conv(128, 128, 3, padding=1)
        self.conv3_1 = conv(128, 256, 3, padding=1)
        self.conv3_2 = conv(256, 256, 3, padding=1)
        self.conv3_3 = conv(256, 256, 3, padding=1)
        self.conv4_1 = conv(256, 512, 3, padding=1)
        self.conv4_2 = conv(512, 512, 3, padding=1)
        self.conv4_3 = conv(512, 512, 3, padding=1)
        self.conv5_1 = conv(512, 512, 3, padding=1)
        self.conv5_2 = conv(512, 512, 3, padding=1)
        self.conv5_3 = conv(512, 512, 3, padding=1)
        self.fc6 = conv(512, 1024, 3, padding=3)
        self.fc7 = conv(1024, 1024, 1)
        self.conv6_1 = conv(1024, 256, 1)
        self.conv6_2 = conv(256, 512, 3, stride=2, padding=1)
        self.conv7_1 = conv(512, 128, 1)
        self.conv7_2 = conv(128, 256, 3, stride=2, padding=1)
        self.conv3_3_norm = L2Norm(256)
        self.conv4_3_norm = L2Norm(512)
        self.conv5_3_norm = L2Norm(512)
        # The finest head has three scores for "no face", of which the highest counts.
        self.conv3_3_norm_mbox_conf = conv(256, 4, 3, padding=1)
        self.conv3_3_norm_mbox_loc = conv(256, 4, 3, padding=1)
        self.conv4_3_norm_mbox_conf = conv(512, 2, 3, padding=1)
        self.conv4_3_norm_mbox_loc = conv(512, 4, 3, padding=1)
        self.conv5_3_norm_mbox_conf = conv(512, 2, 3, padding=1)
        self.conv5_3_norm_mbox_loc = conv(512, 4, 3, padding=1)
        self.fc7_mbox_conf = conv(1024, 2, 3, padding=1)
        self.fc7_mbox_loc = conv(1024, 4, 3, padding=1)
        self.conv6_2_mbox_conf = conv(512, 2, 3, padding=1)
        self.conv6_2_mbox_loc = conv(512, 4, 3, padding=1)
        self.conv7_2_mbox_conf = conv(256, 2, 3, padding=1)
        self.conv7_2_mbox_loc = conv(256, 4, 3, padding=1)

    def forward(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Faces at every place of six grids, of the strides `STRIDES`.

        images: float [B, 3, H, W], at least 32 pixels a side, 0..255 less the mean.
        Returns for each grid the probability of a face [B, h, w] and its raw box [B, 4, h, w]: the offset of the
        centre and the logarithm of the size, both relative to the grid's anchor.
        """
        x = _relu(self.conv1_2, _relu(self.conv1_1, images))
        x = _relu(self.conv2_2, _relu(self.conv2_1, F.max_pool2d(x, 2)))
        grid3 = _relu(self.conv3_3, _relu(self.conv3_2, _relu(self.conv3_1, F.max_pool2d(x, 2))))
        grid4 = _relu(self.conv4_3, _relu(self.conv4_2, _relu(self.conv4_1, F.max_pool2d(grid3, 2))))
        grid5 = _relu(self.conv5_3, _relu(self.conv5_2, _relu(self.conv5_1, F.max_pool2d(grid4, 2))))
        grid7 = _relu(self.fc7, _relu(self.fc6, F.max_pool2d(grid5, 2)))
        grid8 = _relu(self.conv6_2, _relu(self.conv6_1, grid7))
        grid9 = _relu(self.conv7_2, _relu(self.conv7_1, grid8))
        grid3, grid4, grid5 = self.conv3_3_norm(grid3), self.conv4_3_norm(grid4), self.conv5_3_norm(grid5)
        finest = self.conv3_3_norm_mbox_conf(grid3)
        finest = torch.cat((finest[:, :3].amax(1, keepdim=True), finest[:, 3:]), dim=1)
        return [
            (_probability(finest), self.conv3_3_norm_mbox_loc(grid3)),
            (_probability(self.conv4_3_norm_mbox_conf(grid4)), self.conv4_3_norm_mbox_loc(grid4)),
            (_probability(self.conv5_3_norm_mbox_conf(grid5)), self.conv5_3_norm_mbox_loc(grid5)),
            (_probability(self.fc7_mbox_conf(grid7)), self.fc7_mbox_loc(grid7)),
            (_probability(self.conv6_2_mbox_conf(grid8)), self.conv6_2_mbox_loc(grid8)),
            (_probability(self.conv7_2_mbox_conf(grid9)), self.conv7_2_mbox_loc(grid9)),
        ]


class L2Norm(nn.Module):
    """Scale the channels at every place to unit length, then each by its weight."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        length = x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10
        return x / length * self.weight.view(1, -1, 1, 1)


def _relu(layer: nn.Module, x: Tensor) -> Tensor:
    # In place: at full resolution the first layers' outputs are by far the largest things in memory.
    return F.relu(layer(x), inplace=True)


def _probability(scores: Tensor) -> Tensor:
    return scores.softmax(1)[:, 1]
