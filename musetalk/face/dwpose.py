"""Where DWPose sees its 133 points: upstream's way over the whole frame, and a finer one around a face.

Both are mmpose's top-down inference (spec section 3.1): a box is widened by a quarter and to the shape of the input,
warped to 288 x 384, seen once as it is and once mirrored; the logits of both are averaged, and every point lies at
the best bin of each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..halving import run_in_halves
from ..models.dwpose import BINS_PER_PIXEL, INPUT_HEIGHT, INPUT_WIDTH, KEYPOINTS, DWPose

FACE = slice(23, 91)
"""Where the 68 iBUG points lie among the 133."""

_PADDING = 1.25
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
# A head with shoulders as people are framed in the training data, in face heights (forehead to chin): room for
# hair above the face, and the height of all of it. With the padding the view is three face heights high.
_ABOVE, _BUST = 0.35, 2.4
# Bins on either side of the best one that decide where exactly the peak is: about one standard deviation of the
# Gaussian that the network was trained to answer with.
_PEAK = 6


def whole_frame_points(network: DWPose, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Upstream's points: each whole frame is taken for one person.

    frames: uint8 RGB ``[H, W, 3]``; one batch. The network runs where, and in the precision in which, its weights are.
    Returns points float64 ``[n, 133, 2]`` in pixels and scores float32 ``[n, 133]``, raw logits. The points lie on
    a grid as coarse as the frame over 576 x 768, times 1.25 or more. They are float64 because upstream cuts the
    fractions off: in float32, 123.99999999 would be 124. A point with a score of 0 or less lies where mmpose puts it,
    beside the first pixel of the view.
    """
    views = [_View.around((0, 0, frame.shape[1], frame.shape[0])) for frame in frames]
    bins, scores = _run(network, views, frames, refine=False)
    bins[scores <= 0] = -1
    return _to_pictures(views, bins), scores


def points_in_boxes(
    network: DWPose, frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Points of the person in a box of each frame, finer than the network's bins.

    frames: uint8 RGB ``[H, W, 3]``; one batch. boxes: xyxy ``[4]`` in pixels, one per frame, around a person or what is
    in view of one; for a face, `bust`.
    Returns points float32 ``[n, 133, 2]`` in pixels and scores float32 ``[n, 133]``, raw logits.

    Unlike upstream's pass, the peak is placed between the bins, by the parabola that fits the logits around it
    best, and the mirrored look is not half an input pixel off the straight one.
    """
    views = [_View.around(box) for box in boxes]
    bins, scores = _run(network, views, frames, refine=True)
    return _to_pictures(views, bins).astype(np.float32), scores


def bust(face: np.ndarray) -> np.ndarray:
    """The box to look in for the points of a face: xyxy ``[4]``, forehead to chin -> xyxy float64 ``[4]``.

    The network knows people, not faces: shown a face that fills the picture, it has never seen the like. It was trained
    on COCO-WholeBody and on the half-length pictures of UBody, with boxes varied from half to one and a half times
    their size, so head and shoulders are about the closest view it knows: a face a third of the view high, which is 128
    of its 384 pixels, and one bin is a 256th of the face.
    """
    x0, y0, x1, y1 = (float(v) for v in face)
    height = max(y1 - y0, 1.0)
    top, half = y0 - _ABOVE * height, _BUST * height * INPUT_WIDTH / INPUT_HEIGHT / 2
    centre = (x0 + x1) / 2
    return np.array([centre - half, top, centre + half, top + _BUST * height])


@dataclass(frozen=True)
class _View:
    """The upright part of a picture that the network sees: centre and extent, float32 ``[2]``, in pixels."""

    centre: np.ndarray
    extent: np.ndarray

    @classmethod
    def around(cls, box: Sequence[float] | np.ndarray) -> _View:
        x0, y0, x1, y1 = np.asarray(box, np.float32)
        width, height = np.maximum(np.array([x1 - x0, y1 - y0], np.float32) * np.float32(_PADDING), 1)
        shape = np.float32(INPUT_WIDTH / INPUT_HEIGHT)
        extent = (width, width / shape) if width > height * shape else (height * shape, height)
        return cls(np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32), np.array(extent, np.float32))

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """Resample to uint8 ``[384, 288, 3]``; black outside the picture."""
        corner = _corner(self.centre, self.extent[0] / 2)
        target = _corner(np.array([INPUT_WIDTH / 2, INPUT_HEIGHT / 2], np.float32), np.float32(INPUT_WIDTH / 2))
        return _warp(frame, cv2.getAffineTransform(corner, target))

    def smoothed(self, frame: np.ndarray) -> np.ndarray:
        """The frame, averaged over what becomes one pixel of the view, so that fine detail does not flicker."""
        side = int(self.extent[1] / INPUT_HEIGHT)
        return cv2.blur(frame, (side | 1, side | 1)) if side > 1 else frame


def _corner(centre: np.ndarray, arm: np.float32) -> np.ndarray:
    """The centre, the point ``arm`` left of it, and the point ``arm`` below that one: float32 ``[3, 2]``."""
    return (centre + np.array([[0, 0], [-arm, 0], [-arm, arm]])).astype(np.float32)


def _warp(frame: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``cv2.warpAffine`` to the input's size, bilinear, as OpenCV 4 does it.

    OpenCV 5 rounds otherwise, which moves points. Its ``remap`` with maps in fixed point gives the pixels of
    OpenCV 4, whose steps these are: 1024ths of a pixel along a line, 32nds where the pixel is read.
    """
    back = cv2.invertAffineTransform(matrix)
    columns = np.rint(np.outer(back[:, 0], np.arange(INPUT_WIDTH)) * 1024).astype(np.int64)
    lines = np.rint((np.outer(back[:, 1], np.arange(INPUT_HEIGHT)) + back[:, 2:]) * 1024).astype(np.int64)
    places = (lines[:, :, None] + columns[:, None, :] + 16) >> 5
    limits = np.iinfo(np.int16)
    pixels = (places >> 5).clip(limits.min, limits.max).astype(np.int16).transpose(1, 2, 0)
    fractions = ((places[1] & 31) * 32 + (places[0] & 31)).astype(np.uint16)
    return cv2.remap(frame, np.ascontiguousarray(pixels), fractions, cv2.INTER_LINEAR)


def _to_pictures(views: Sequence[_View], bins: np.ndarray) -> np.ndarray:
    """Bins ``[n, 133, 2]`` of each view to picture pixels, float64."""
    points = np.empty(bins.shape)
    for row, view, places in zip(points, views, bins, strict=True):
        pixels = (places / BINS_PER_PIXEL).astype(np.float32)
        row[:] = pixels / np.array([INPUT_WIDTH, INPUT_HEIGHT]) * view.extent + view.centre - 0.5 * view.extent
    return points


def _run(
    network: DWPose, views: Sequence[_View], frames: Sequence[np.ndarray], *, refine: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Bins float32 ``[n, 133, 2]`` and scores ``[n, 133]``."""
    if not views:
        return np.empty((0, KEYPOINTS, 2), np.float32), np.empty((0, KEYPOINTS), np.float32)
    weight = next(network.parameters())
    seen = zip(views, frames, strict=True)
    cuts = np.stack([view.cut(view.smoothed(frame) if refine else frame) for view, frame in seen])

    def look(images: Tensor) -> Tensor:
        pixels = images.to(weight.device).permute(0, 3, 1, 2).float()
        inputs = (pixels - _column(_MEAN, pixels)) / _column(_STD, pixels)
        return _peaks(*_logits(network, inputs.to(weight.dtype), aligned=refine), refine=refine)

    with torch.inference_mode():
        found = run_in_halves(look, torch.from_numpy(cuts)).cpu().numpy()
    return found[..., :2], found[..., 2]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(3, 1, 1)


def _logits(network: DWPose, inputs: Tensor, *, aligned: bool) -> tuple[Tensor, Tensor]:
    """The mean logits, float32, of the inputs and of their mirror images."""
    x, y = network(inputs)
    # A pass of its own, as in mmpose: twice the batch would round differently.
    mirrored_x, mirrored_y = network(inputs.flip(-1))
    swapped = torch.tensor(_SWAPPED, device=inputs.device)
    mirrored_x, mirrored_y = mirrored_x[:, swapped].flip(-1), mirrored_y[:, swapped]
    if aligned:
        # Pixel p becomes 287 - p, and its bin 2p becomes 574 - 2p; turning the bins around makes that 575 - 2p.
        mirrored_x = torch.cat((mirrored_x[..., 1:], mirrored_x[..., -1:]), dim=-1)
    return (x.float() + mirrored_x.float()) * 0.5, (y.float() + mirrored_y.float()) * 0.5


def _peaks(x: Tensor, y: Tensor, *, refine: bool) -> Tensor:
    """The bins of the highest logits and the lower one of the two heights: ``[n, 133, 3]``."""
    bins = [_refined(axis) if refine else axis.argmax(-1).float() for axis in (x, y)]
    return torch.stack([*bins, torch.minimum(x.amax(-1), y.amax(-1))], dim=-1)


def _refined(logits: Tensor) -> Tensor:
    """Where the peaks are, between the bins: the top of the least-squares parabola through the bins around the best.

    It moves a peak by half its window at most, and not at all where the bins are no hill or their end is near.
    """
    best = logits.argmax(-1)
    near = torch.arange(-_PEAK, _PEAK + 1, device=logits.device)
    values = logits.gather(-1, (best[..., None] + near).clamp(0, logits.shape[-1] - 1))
    steps = near.float()
    squares = steps.square() - steps.square().mean()
    slope = (values * steps).sum(-1) / steps.square().sum()
    curvature = (values * squares).sum(-1) / squares.square().sum()
    is_hill = (curvature < 0) & (best >= _PEAK) & (best < logits.shape[-1] - _PEAK)
    offset = torch.where(is_hill, -slope / (2 * curvature), 0.0)
    return best + offset.clamp(-_PEAK / 2, _PEAK / 2)


def _mirror_pairs() -> list[tuple[int, int]]:
    """Left and right of the same thing, among the 133 points."""
    body = [(i, i + 1) for i in range(1, 17, 2)]
    feet = [(i, i + 3) for i in range(17, 20)]
    jaw = [(23 + i, 39 - i) for i in range(8)]
    brows = [(40 + i, 49 - i) for i in range(5)]
    nostrils = [(54, 58), (55, 57)]
    eyes = [(59, 68), (60, 67), (61, 66), (62, 65), (63, 70), (64, 69)]
    lips = [(71, 77), (72, 76), (73, 75), (78, 82), (79, 81), (83, 87), (84, 86), (88, 90)]
    hands = [(91 + i, 112 + i) for i in range(21)]
    return [*body, *feet, *jaw, *brows, *nostrils, *eyes, *lips, *hands]


def _swapped() -> list[int]:
    points = list(range(KEYPOINTS))
    for left, right in _mirror_pairs():
        points[left], points[right] = right, left
    return points


_SWAPPED = _swapped()
