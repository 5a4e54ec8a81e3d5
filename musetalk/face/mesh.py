"""Face detection (BlazeFace short-range) and the 468-point face mesh, in plain PyTorch.

The weights are MediaPipe 0.10.21's, shipped with the package; see faces.md section 1 for what was measured
against the original.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError, ModelFileError
from . import blazeface
from .blazeface import FaceDetection
from .graph import TFLiteGraph
from .roi import Roi
from .views import looks
from .worker import single_core_worker

_WEIGHTS = Path(__file__).parent / "weights" / "facemesh.safetensors"
_MESH_SIZE = 192
# Passes of more views at once fall out of a core's cache: 30 take twice as long each as 8 do.
_BATCH = 8

Box = tuple[int, int, int, int]


class FaceMesh:
    """The detector and the mesh network on one device, in float32."""

    def __init__(self, detector: TFLiteGraph, landmarker: TFLiteGraph, device: torch.device) -> None:
        self._detector = detector.to(device)
        self._landmarker = landmarker.to(device)
        self._device = device
        self._worker = single_core_worker() if device.type == "cpu" else None
        self._anchors = blazeface.anchor_centres()

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

    def detect(
        self, rgb: np.ndarray, min_score: float = 0.5, *, every_tiling: bool = False, turns: Sequence[float] = (0.0,)
    ) -> list[FaceDetection]:
        """Faces in a picture uint8 ``[H, W, 3]``, best score first.

        The whole picture is looked at first, and ever smaller overlapping tiles only while nothing was found, which
        finds faces down to 4% of the long side. ``every_tiling`` looks at all of them, for small faces beside a large
        one. ``turns``: the picture is looked at turned by each of these angles in radians. See :mod:`.views`.
        """
        check_picture(rgb)
        height, width = rgb.shape[:2]
        steps = [list(chain(*step)) for step in zip(*(looks(width, height, turn) for turn in turns), strict=True)]
        for views in [list(chain(*steps))] if every_tiling else steps:
            found = self.detect_in(rgb, views, min_score)
            if found:
                return found
        return []

    def detect_in(self, rgb: np.ndarray, views: Sequence[Roi], min_score: float = 0.5) -> list[FaceDetection]:
        """Faces in square parts of a picture, best score first; views are turned by quarters or not at all.

        What overlaps is merged within the views of one turn; between turns the best score counts.
        """
        check_picture(rgb)
        cuts = [view.cut(rgb, blazeface.SIZE, cv2.BORDER_CONSTANT) for view in views]
        values, logits = self._run(self._detector, cuts, scale=1 / 127.5, offset=-1.0)
        by_turn: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {}
        for view, value, score in zip(views, values, _sigmoid(logits[..., 0]), strict=True):
            good = score >= min_score
            points = blazeface.decode(value[good], self._anchors[good], view)
            by_turn.setdefault(view.angle, []).append((points, score[good]))
        merged = [blazeface.merge(*map(np.concatenate, zip(*seen, strict=True))) for seen in by_turn.values()]
        return merged[0] if len(merged) == 1 else blazeface.best(list(chain(*merged)))

    def meshes(self, rgb: np.ndarray, rois: Sequence[Roi]) -> tuple[np.ndarray, np.ndarray]:
        """The meshes float32 ``[N, 468, 3]`` of the faces in ``rois``, picture pixels (z alike), and presence ``[N]``.

        The network always answers: the points mean nothing where presence, 0..1, is below 0.5.
        """
        check_picture(rgb)
        if not rois:
            return np.zeros((0, 468, 3), np.float32), np.zeros(0, np.float32)
        cuts = [roi.cut(rgb, _MESH_SIZE) for roi in rois]
        points, presence = self._run(self._landmarker, cuts, scale=1 / 255, offset=0.0)
        unit = points.reshape(-1, 468, 3) / _MESH_SIZE
        return np.stack([roi.to_picture(p) for roi, p in zip(rois, unit, strict=True)]), _sigmoid(presence.ravel())

    def landmarks(self, rgb: np.ndarray, roi: Roi) -> tuple[np.ndarray, float]:
        """:meth:`meshes` for one face: mesh float32 ``[468, 3]`` and presence 0..1."""
        points, presence = self.meshes(rgb, [roi])
        return points[0], float(presence[0])

    def mesh_in_box(self, rgb: np.ndarray, box: Box, min_score: float = 0.5) -> np.ndarray | None:
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
            answers = []
            with torch.inference_mode():
                for start in range(0, len(views), _BATCH):
                    batch = torch.from_numpy(np.stack(views[start : start + _BATCH])).to(self._device)
                    answers.append(network(batch.permute(0, 3, 1, 2).float() * scale + offset))
                return [torch.cat(parts).cpu().numpy() for parts in zip(*answers, strict=True)]

        return forward() if self._worker is None else self._worker.submit(forward).result()


def check_picture(rgb: np.ndarray) -> None:
    """Raises InputError for anything but uint8 ``[H, W, 3]``."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise InputError(f"a picture must be uint8 [H, W, 3] RGB, got {rgb.dtype} {list(rgb.shape)}")


def _sigmoid(x: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))  # MediaPipe clips too; float32 overflows at 89
