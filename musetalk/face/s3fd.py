"""The faces S3FD finds, by upstream's rules (spec section 3.2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..models.s3fd import S3FD, STRIDES

# Upstream subtracts the means of B, G and R from R, G and B.
_MEAN = (104.0, 117.0, 123.0)
_CANDIDATE = 0.05
_SAME_FACE = 0.3
_SMALLEST_PICTURE = 32


def detect_faces(network: S3FD, frame: np.ndarray, min_score: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Faces in a picture uint8 RGB ``[H, W, 3]``, which is looked at in full resolution.

    Returns boxes float32 ``[n, 4]`` xyxy in pixels, which may leave the picture, and scores float32 ``[n]`` above
    ``min_score``, highest first. Upstream uses the first one. A picture of less than 32 pixels a side has none.
    """
    if min(frame.shape[:2]) < _SMALLEST_PICTURE:
        return np.empty((0, 4), np.float32), np.empty(0, np.float32)
    weight = next(network.parameters())
    with torch.inference_mode():
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(weight.device).permute(2, 0, 1).float()
        pixels -= torch.tensor(_MEAN, device=weight.device).view(3, 1, 1)
        grids = network(pixels[None].to(weight.dtype))
        found = [
            _candidates(faces[0].float(), raw[0].float(), stride)
            for stride, (faces, raw) in zip(STRIDES, grids, strict=True)
        ]
        rows = torch.cat(found).cpu().numpy()
    rows = rows[rows[:, 4].argsort()[::-1]]
    rows = rows[_suppress(rows[:, :4])]
    rows = rows[rows[:, 4] > min_score]
    return rows[:, :4], rows[:, 4]


def _candidates(faces: Tensor, raw: Tensor, stride: int) -> Tensor:
    """Boxes and scores ``[n, 5]`` of one grid: probabilities ``[h, w]``, raw boxes ``[4, h, w]``."""
    rows, columns = torch.where(faces > _CANDIDATE)
    raw = raw[:, rows, columns].T
    anchor = 4.0 * stride
    centre = torch.stack((columns, rows), dim=1) * stride + stride / 2 + raw[:, :2] * 0.1 * anchor
    size = anchor * torch.exp(raw[:, 2:] * 0.2)
    corner = centre - size / 2
    return torch.cat((corner, corner + size, faces[rows, columns, None]), dim=1)


def _suppress(boxes: np.ndarray) -> list[int]:
    """Which of the boxes, best first, are not the same face as a better one; a box holds its last pixels too."""
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    kept = []
    left = np.arange(len(boxes))
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        corners = np.maximum(boxes[best, :2], boxes[left, :2]), np.minimum(boxes[best, 2:], boxes[left, 2:])
        overlap = np.maximum(0, corners[1] - corners[0] + 1).prod(axis=1)
        left = left[overlap / (areas[best] + areas[left] - overlap) <= _SAME_FACE]
    return kept
