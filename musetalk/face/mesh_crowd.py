"""Every face of a clip with the built-in networks.

Faces that are known are followed from frame to frame with the mesh network, all in one batch. Newcomers are looked for
in the whole picture of every frame (down to 10% of its long side), and in tiles (down to 4%) in the first frame,
where many faces are lost at once, and twice a second; while no face is seen, in every frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from .blazeface import MOST_FACES
from .landmarks68 import to_68
from .mesh import FaceMesh
from .mesh_finder import MIN_OVERLAP, STEADY_OVERLAP, Found, MeshFinder, overlaps
from .roi import Roi, mesh_box
from .sources import FaceObservation, TrackRequest
from .views import around

# A lost face is looked for near its last place for so long, in a view of so many of its sides; a scan finds it
# anywhere.
_PATIENCE_SECONDS = 0.5
_NEAR_SIDE = 3.0
_MOST_NEAR = 8
# Overlap (IoU) of two meshes of the same face in one frame; of a face with the last place where it was lost.
_SAME, _BACK = 0.5, 0.3


def observe_crowd(
    mesh: FaceMesh, frames: Iterator[np.ndarray], request: TrackRequest
) -> Iterator[list[FaceObservation]]:
    """Every usable face of each frame, each face once, at most ``MOST_FACES``; nobody is followed under a name.

    The order says nothing. With ``request.still`` every frame is a picture of its own.
    """
    crowd: MeshCrowd | None = None
    for frame in frames:
        if crowd is None or request.still:
            crowd = MeshCrowd(mesh, min_score=request.min_score, fps=request.fps)
        yield [observation(points, score) for points, score in crowd.step(frame)]


def observation(points: np.ndarray, score: float) -> FaceObservation:
    """A mesh ``[468, 3]`` and its presence as they are kept: by copy, for a view would keep the whole batch alive."""
    return FaceObservation(landmarks=to_68(points), mesh=points[:, :2].astype(np.float32), score=score)


class MeshCrowd:
    """The meshes of all faces over consecutive frames."""

    def __init__(self, mesh: FaceMesh, *, min_score: float, fps: Fraction) -> None:
        self._finder = MeshFinder(mesh, min_score=min_score, fps=fps)
        self._patience = math.ceil(fps * _PATIENCE_SECONDS)
        self._faces: list[np.ndarray] = []
        self._lost: list[tuple[np.ndarray, int]] = []  # the last mesh, and for how many frames it is missing

    def step(self, rgb: np.ndarray) -> list[Found]:
        """Every face of the next frame: mesh float32 ``[468, 3]`` and presence 0..1 of each."""
        finder = self._finder
        finder.next_frame()
        steady, shaky, lost = self._follow(rgb)
        cut = len(lost) >= len(self._faces) / 2  # also while no face is known
        if finder.searching or cut:
            detections = finder.scan(rgb)
        else:
            missing = [*(points for points, _ in shaky), *lost, *(last for last, _ in self._lost)]
            rois = [Roi.around_mesh(last) for last in missing[:_MOST_NEAR]]
            detections = finder.glance(rgb, [around(roi, roi.side * _NEAR_SIDE) for roi in rois])
        fresh = finder.settle(rgb, detections, known=[] if cut else _boxes(steady))
        if cut:  # whoever seems to have stayed must be seen anew: the network likes to find a face where one was
            steady, shaky = [face for face in steady if overlaps(mesh_box(face[0]), _boxes(fresh), _SAME)], []
        found = _distinct([*steady, *fresh, *shaky])
        if not found:
            found = _distinct(finder.settle(rgb, finder.scan_sideways(rgb)))
        self._faces = [points for points, _ in found]
        boxes = _boxes(found)
        self._lost = [
            (last, frames + 1)
            for last, frames in [*((last, 0) for last in lost), *self._lost]
            if frames < self._patience and (steady or not cut) and not overlaps(mesh_box(last), boxes, _BACK)
        ]
        return found

    def _follow(self, rgb: np.ndarray) -> tuple[list[Found], list[Found], list[np.ndarray]]:
        """The faces of the frame before: those followed surely, steadiest first; doubtful ones; the lost ones' last."""
        steady: list[tuple[float, Found]] = []
        shaky: list[Found] = []
        lost: list[np.ndarray] = []
        for last, (face, overlap) in zip(self._faces, self._finder.follow(rgb, self._faces), strict=True):
            if overlap >= STEADY_OVERLAP:
                steady.append((overlap, face))
            elif overlap >= MIN_OVERLAP:
                shaky.append(face)
            else:
                lost.append(last)
        return [face for _, face in sorted(steady, key=lambda s: -s[0])], shaky, lost


def _boxes(faces: Sequence[Found]) -> list[np.ndarray]:
    return [mesh_box(points) for points, _ in faces]


def _distinct(faces: Sequence[Found]) -> list[Found]:
    """Each face once, as it comes first; of too many the largest."""
    kept: list[Found] = []
    boxes: list[np.ndarray] = []
    for face in faces:
        box = mesh_box(face[0])
        if not overlaps(box, boxes, _SAME):
            kept.append(face)
            boxes.append(box)
    if len(kept) <= MOST_FACES:
        return kept
    largest = np.argsort([-float((box[2:] - box[:2]).prod()) for box in boxes], kind="stable")[:MOST_FACES]
    return [kept[i] for i in sorted(largest.tolist())]
