"""Label maps of blending crops: from the face parser's weights, or drawn from the face mesh (spec section 6.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from .boxes import Box
from .labels import LABEL_GRID, draw_labels, draw_oval
from .masks import cut_box
from .mesh import FaceMesh
from .upright import Turn, turn_points

_IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@torch.inference_mode()
def parse_crops(parser: torch.nn.Module, crops: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run the face parser: uint8 RGB ``[h, w, 3]`` crops of any size to uint8 ``[512, 512]`` class maps."""
    device = next(parser.parameters()).device
    return [_parse(parser, crop, device) for crop in crops]


def _parse(parser: torch.nn.Module, crop: np.ndarray, device: torch.device) -> np.ndarray:
    sized = Image.fromarray(crop).resize((LABEL_GRID, LABEL_GRID), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.array(sized)).permute(2, 0, 1).float().div(255)
    logits = parser(((image - _IMAGENET_MEAN) / _IMAGENET_STD)[None].to(device))
    return logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


class MeshLabels:
    """Label maps without parser weights: drawn from the track's mesh, or from a mesh run inside the given box."""

    def __init__(self) -> None:
        self._mesh: FaceMesh | None = None

    def labels(
        self, frame: np.ndarray, mesh: np.ndarray | None, box: Box, crop: Box, turn: Turn | None = None
    ) -> np.ndarray:
        """The uint8 ``[512, 512]`` class map of a blending crop.

        frame: uint8 RGB ``[H, W, 3]``. mesh: float32 ``[468, 2]`` of this frame, or None or NaN when none was run.
        turn: box and crop are those of the picture turned by it; frame and mesh are as filmed.
        A box in which the mesh sees no face (a drawn or masked one) gets an oval of skin.
        """
        if mesh is None or np.isnan(mesh).any():
            mesh = self._mesh_in(frame, box, crop, turn)
        elif turn is not None:
            mesh = turn_points(mesh, turn)
        return draw_oval(box, crop) if mesh is None else draw_labels(mesh, crop)

    def _mesh_in(self, frame: np.ndarray, box: Box, crop: Box, turn: Turn | None) -> np.ndarray | None:
        if self._mesh is None:
            self._mesh = FaceMesh.load()
        if turn is None:
            return self._mesh.mesh_in_box(frame, box)
        x0, y0 = crop[:2]
        inner = box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0
        mesh = self._mesh.mesh_in_box(cut_box(frame, crop, turn), inner)
        return None if mesh is None else mesh[:, :2] + np.array([x0, y0], np.float32)
