"""Face detection (BlazeFace short-range) and the 468-point face mesh, in plain PyTorch.

The weights are MediaPipe 0.10.21's, shipped with the package; see faces.md section 1 for what was measured
against the original.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError, ModelFileError
from .graph import TFLiteGraph
from .roi import Roi
from .worker import single_core_worker

_WEIGHTS = Path(__file__).parent / "weights" / "facemesh.safetensors"
_DETECTOR_SIZE = 128
_MESH_SIZE = 192
_MERGE_IOU = 0.3
# The detector finds faces down to a tenth of the long side of what it is shown. When it finds none, the
# picture is
# looked at again in overlapping tiles: (tiles per side, tile side as a part of the picture's side).
_TILINGS = ((1, 1.0), (2, 0.6), (3, 0.4))

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class FaceDetection:
    """One face: score 0..1, box float32 ``[4]`` xyxy and key points float32 ``[6, 2]`` in picture pixels.

    Key points: right eye, left eye, nose tip, mouth, right ear, left ear (the person's right and left).
    """

    score: float
    box: np.ndarray
    keypoints: np.ndarray

    @property
    def roi(self) -> Roi:
        """Where the mesh network has to look."""
        return Roi.around_box(self.box, self.keypoints[0], self.keypoints[1])


class FaceMesh:
    """The detector and the mesh network on one device, in float32."""

    def __init__(self, detector: TFLiteGraph, landmarker: TFLiteGraph, device: torch.device) -> None:
        self._detector = detector.to(device)
        self._landmarker = landmarker.to(device)
        self._device = device
        self._worker = single_core_worker() if device.type == "cpu" else None
        self._anchors = _anchor_centres()

    @classmethod
    def load(cls, device: str | torch.device = "cpu") -> FaceMesh:
        """Build both networks from the weights shipped with the package.

        Raises ModelFileError when that file is missing or damaged.
        """
        try:
            with safe_open(_WEIGHTS, framework="pt") as file:
                graphs = json.loads(file.metadata()["graphs"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"face mesh weights {_WEIGHTS}: {error}; reinstall the package") from error
        networks = []
        for net in ("det", "mesh"):
            constants = {int(k.split(".")[1]): t for k, t in tensors.items() if k.startswith(f"{net}.")}
            networks.append(TFLiteGraph(graphs[net], constants).eval())
        return cls(networks[0], networks[1], torch.device(device))

    def detect(self, rgb: np.ndarray, min_score: float = 0.5, *, every_tiling: bool = False) -> list[FaceDetection]:
        """Faces in a picture uint8 ``[H, W, 3]``, best score first.

        The whole picture is looked at first; 2x2 and then 3x3 overlapping tiles only while nothing was found,
        which finds faces down to 4% of the long side. ``every_tiling`` looks at all of them, for small faces
        beside a large one.
        """
        _check_picture(rgb)
        height, width = rgb.shape[:2]
        if every_tiling:
            return self._detect_in(rgb, [w for n, part in _TILINGS for w in _tiles(width, height, n, part)], min_score)
        for per_side, part in _TILINGS:
            found = self._detect_in(rgb, _tiles(width, height, per_side, part), min_score)
            if found:
                return found
        return []

    def detect_near(
        self, rgb: np.ndarray, box: np.ndarray, reach: float, min_score: float = 0.5
    ) -> list[FaceDetection]:
        """Faces in the square that reaches ``reach`` long sides of ``box`` (xyxy) from its centre."""
        _check_picture(rgb)
        x0, y0, x1, y1 = (float(v) for v in box)
        half = max(x1 - x0, y1 - y0) * reach
        left, top = max(0, int((x0 + x1) / 2 - half)), max(0, int((y0 + y1) / 2 - half))
        right, bottom = (
            min(rgb.shape[1], int((x0 + x1) / 2 + half)),
            min(rgb.shape[0], int((y0 + y1) / 2 + half)),
        )
        if right <= left or bottom <= top:
            return []
        return self._detect_in(rgb, [(left, top, right, bottom)], min_score)

    def landmarks(self, rgb: np.ndarray, roi: Roi) -> tuple[np.ndarray, float]:
        """Mesh float32 ``[468, 3]`` of the face in ``roi``, picture pixels (z alike), and presence 0..1.

        The network always answers: the points mean nothing where presence is below 0.5.
        """
        _check_picture(rgb)
        points, presence = self._run(self._landmarker, [roi.cut(rgb, _MESH_SIZE)], scale=1 / 255, offset=0.0)
        return roi.to_picture(points.reshape(468, 3) / _MESH_SIZE), float(_sigmoid(presence.item()))

    def mesh_in_box(self, rgb: np.ndarray, box: Window, min_score: float = 0.5) -> np.ndarray | None:
        """The mesh float32 ``[468, 3]`` of the face that fills ``box`` (xyxy), or None when none does."""
        roi = Roi.around_upright_box(np.array(box, np.float32))
        for _ in range(2):  # the second look has the framing, and the roll, that the first one found
            points, presence = self.landmarks(rgb, roi)
            if presence < min_score:
                return None
            roi = Roi.around_mesh(points)
        return points

    def _run(
        self, network: TFLiteGraph, views: Sequence[np.ndarray], *, scale: float, offset: float
    ) -> list[np.ndarray]:
        def forward() -> list[np.ndarray]:
            with torch.inference_mode():
                batch = torch.from_numpy(np.stack(views)).to(self._device).permute(0, 3, 1, 2).float()
                return [out.cpu().numpy() for out in network(batch * scale + offset)]

        return forward() if self._worker is None else self._worker.submit(forward).result()

    def _detect_in(self, rgb: np.ndarray, windows: Sequence[Window], min_score: float) -> list[FaceDetection]:
        """Detect in parts of the picture (one batch) and merge what overlaps."""
        views = []
        for x0, y0, x1, y1 in windows:
            letterbox = Roi((x1 - x0) / 2, (y1 - y0) / 2, max(x1 - x0, y1 - y0))
            views.append(letterbox.cut(rgb[y0:y1, x0:x1], _DETECTOR_SIZE, cv2.BORDER_CONSTANT))
        values, logits = self._run(self._detector, views, scale=1 / 127.5, offset=-1.0)
        points, kept = [], []
        for window, value, score in zip(windows, values, _sigmoid(logits[..., 0]), strict=True):
            good = score >= min_score
            points.append(_decode(value[good], self._anchors[good], window))
            kept.append(score[good])
        return _merge(np.concatenate(points), np.concatenate(kept))


def _check_picture(rgb: np.ndarray) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise InputError(f"a picture must be uint8 [H, W, 3] RGB, got {rgb.dtype} {list(rgb.shape)}")


def _tiles(width: int, height: int, per_side: int, part: float) -> list[Window]:
    w, h = max(1, round(width * part)), max(1, round(height * part))
    xs = np.linspace(0, width - w, per_side).round().astype(int).tolist()
    ys = np.linspace(0, height - h, per_side).round().astype(int).tolist()
    return [(x, y, x + w, y + h) for y in ys for x in xs]


def _sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))  # MediaPipe clips too; float32 overflows at 89


def _anchor_centres() -> np.ndarray:
    """float32 ``[896, 2]`` in 0..1: two anchors per cell at stride 8, six per cell at stride 16."""
    centres = []
    for stride, per_cell in ((8, 2), (16, 6)):
        cells = _DETECTOR_SIZE // stride
        y, x = np.mgrid[0:cells, 0:cells]
        grid = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        centres.append(grid.repeat(per_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


def _decode(values: np.ndarray, anchors: np.ndarray, window: Window) -> np.ndarray:
    """Raw regression ``[N, 16]`` to picture pixels ``[N, 8, 2]``: two box corners, six key points."""
    raw = values.reshape(-1, 8, 2) / _DETECTOR_SIZE
    centre, half = raw[:, :1] + anchors[:, None], raw[:, 1:2] / 2
    unit = np.concatenate([centre - half, centre + half, raw[:, 2:] + anchors[:, None]], axis=1)
    x0, y0, x1, y1 = window
    side = max(x1 - x0, y1 - y0)
    letterbox = np.array([side - (x1 - x0), side - (y1 - y0)], np.float32) / 2
    return unit * side - letterbox + np.array([x0, y0], np.float32)


def _merge(points: np.ndarray, scores: np.ndarray) -> list[FaceDetection]:
    """Weighted non-maximum suppression as in MediaPipe: what overlaps becomes its score-weighted mean."""
    order = np.argsort(-scores, kind="stable")
    points, scores = points[order], scores[order]
    found = []
    while len(scores):
        same = iou(points[0, :2].reshape(4), points[:, :2].reshape(-1, 4)) > _MERGE_IOU
        same[0] = True  # also when its own box is empty
        mean = np.average(points[same], axis=0, weights=scores[same]).astype(np.float32)
        found.append(FaceDetection(float(scores[0]), mean[:2].reshape(4), mean[2:]))
        points, scores = points[~same], scores[~same]
    return found


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of xyxy ``[4]`` with each of ``[N, 4]``."""
    overlap = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return overlap / np.maximum((box[2:] - box[:2]).prod() + areas - overlap, np.finfo(np.float32).tiny)
