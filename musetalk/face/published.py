"""Upstream's networks as a landmark source: DWPose, and S3FD as the gate before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch

from ..errors import InputError, ModelFileError
from ..models.dwpose import DWPose
from ..models.layout import find_face_network, missing_face_network
from ..models.load import resolve_device
from ..models.s3fd import S3FD
from ..models.signatures import Kind
from .boxes import Box
from .dwpose import FACE, bust, points_in_boxes, whole_frame_points
from .mesh import FaceMesh
from .mesh_crowd import observe_crowd
from .mesh_source import MeshLandmarks
from .mesh_tracker import MeshTracker
from .names import LANDMARK_SOURCES
from .roi import mesh_box
from .s3fd import detect_faces
from .sources import FaceObservation, LandmarkSource, TrackRequest

_BATCH_BYTES = 64 << 20
# The score from which on DWPose's own tools draw a point.
_SEEN = 0.3


class DWPoseLandmarks:
    """68 landmarks from DWPose.

    Under ``request.parity`` as upstream looks: the whole frame is taken for one person, whoever is selected. S3FD is
    asked first whether there is a face, and its best box serves where the landmarks give none; without S3FD every frame
    counts as one with a face. Landmarks are whole pixels, as upstream cuts them off, and there is no mesh.

    Otherwise the built-in mesh finds and follows the face, and DWPose looks at head and shoulders of that person, which
    is several times finer (see `dwpose.bust`). The mesh is kept, so that masks can be drawn from it; S3FD is not asked.
    The score is the mesh's presence times how well the points are seen, on average: each from 0 to 1, and 1 from a raw
    score of 0.3 on.
    """

    name = "dwpose"

    def __init__(
        self, network: DWPose, gate: S3FD | None = None, mesh: FaceMesh | None = None, batch_size: int = 8
    ) -> None:
        """Network and gate run where their weights are; the mesh is loaded on the CPU when it is first needed.

        batch_size: faces per pass; fewer where frames are so large that 64 MiB hold less.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; pass at least 1")
        self._network = network
        self._gate = gate
        self._mesh = mesh
        self._batch_size = batch_size

    def observe(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[FaceObservation]:
        if request.parity:
            return self._as_upstream(frames)
        tracker = MeshTracker(
            self._loaded_mesh(),
            select=request.select,
            min_score=request.min_score,
            fps=request.fps,
            still=request.still,
        )
        return (faces[0] if faces else FaceObservation() for faces in self._refined(_each(tracker, frames)))

    def observe_everyone(self, frames: Iterator[np.ndarray], request: TrackRequest) -> Iterator[list[FaceObservation]]:
        """As the protocol says; there is no upstream way of this, so ``request.parity`` changes nothing."""
        held: deque[np.ndarray] = deque()

        def recorded() -> Iterator[np.ndarray]:
            for frame in frames:
                held.append(frame)
                yield frame

        crowd = observe_crowd(self._loaded_mesh(), recorded(), request)
        return self._refined((held.popleft(), faces) for faces in crowd)

    def _loaded_mesh(self) -> FaceMesh:
        if self._mesh is None:
            self._mesh = FaceMesh.load()
        return self._mesh

    def _as_upstream(self, frames: Iterator[np.ndarray]) -> Iterator[FaceObservation]:
        while batch := _take(frames, self._batch_size):
            gates = [_first_face(self._gate, frame) for frame in batch]
            shown = [frame for frame, (is_face, _) in zip(batch, gates, strict=True) if is_face]
            points, scores = whole_frame_points(self._network, shown)
            found = iter(zip(points[:, FACE], scores[:, FACE], strict=True))
            for is_face, box in gates:
                if not is_face:
                    yield FaceObservation()
                    continue
                landmarks, score = next(found)
                yield FaceObservation(landmarks=np.trunc(landmarks).astype(np.float32), box=box, score=_share(score))

    def _refined(self, seen: Iterator[tuple[np.ndarray, list[FaceObservation]]]) -> Iterator[list[FaceObservation]]:
        """The faces that the mesh saw in each frame, with landmarks from DWPose."""
        waiting: list[tuple[np.ndarray, list[FaceObservation]]] = []
        for frame, faces in seen:
            waiting.append((frame, faces))
            held = sum(picture.nbytes for picture, _ in waiting)
            if sum(len(others) for _, others in waiting) >= self._batch_size or held >= _BATCH_BYTES:
                yield from self._refine(waiting)
                waiting = []
        yield from self._refine(waiting)

    def _refine(self, waiting: list[tuple[np.ndarray, list[FaceObservation]]]) -> Iterator[list[FaceObservation]]:
        pairs = [(frame, face) for frame, faces in waiting for face in faces]
        refined: list[FaceObservation] = []
        for start in range(0, len(pairs), self._batch_size):
            part = pairs[start : start + self._batch_size]
            boxes = [bust(mesh_box(cast(np.ndarray, face.mesh))) for _, face in part]
            points, scores = points_in_boxes(self._network, [frame for frame, _ in part], boxes)
            for (_, face), places, values in zip(part, points[:, FACE], scores[:, FACE], strict=True):
                refined.append(replace(face, landmarks=places, score=face.score * _share(values)))
        done = iter(refined)
        for _, faces in waiting:
            yield list(islice(done, len(faces)))


def open_landmarks(
    name: str, models_dir: Path | str, device: torch.device | str | None = None, *, gate: bool | None = None
) -> LandmarkSource:
    """A landmark source by its name.

    name: ``"facemesh"``, which is built in, or ``"dwpose"``.
    models_dir: where the weights of DWPose and S3FD lie: at their official places (spec section 1.1), or anywhere up to
        two folders deep.
    device: what DWPose and S3FD run on; default is cuda, else mps, else cpu. They are in float32.
    gate: whether S3FD decides, under parity, which frames show a face; None where its file is there.

    Raises InputError for an unknown name or device, and ModelFileError for weights that are missing or damaged; the
    message says how to get them.
    """
    if name == "facemesh":
        return MeshLandmarks()
    if name != "dwpose":
        raise InputError(f"landmarks is {name!r}; use one of {', '.join(LANDMARK_SOURCES)}")
    folder, place = Path(models_dir), resolve_device(device)
    network = _load(folder, "dwpose", place, needed=True)
    detector = None if gate is False else _load(folder, "s3fd", place, needed=gate is True)
    return DWPoseLandmarks(cast(DWPose, network), cast("S3FD | None", detector))


def _load(models_dir: Path, kind: Kind, device: torch.device, *, needed: bool) -> torch.nn.Module | None:
    found = find_face_network(models_dir, kind)
    if found is not None:
        return found.build(device, torch.float32)
    if needed:
        raise ModelFileError(missing_face_network(models_dir, kind))
    return None


def _each(tracker: MeshTracker, frames: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, list[FaceObservation]]]:
    for frame in frames:
        found = tracker.step(frame)
        yield frame, [] if found is None else [FaceObservation(mesh=found[0][:, :2], score=found[1])]


def _take(frames: Iterator[np.ndarray], most: int) -> list[np.ndarray]:
    """The next frames: ``most`` of them, or as many as 64 MiB hold, but one at least; empty at the end."""
    taken: list[np.ndarray] = []
    for frame in frames:
        taken.append(frame)
        if len(taken) == most or sum(one.nbytes for one in taken) + frame.nbytes > _BATCH_BYTES:
            break
    return taken


def _first_face(gate: S3FD | None, frame: np.ndarray) -> tuple[bool, Box | None]:
    """Whether the frame counts as one with a face, and S3FD's best box in whole pixels."""
    if gate is None:
        return True, None
    boxes, _ = detect_faces(gate, frame)
    if not len(boxes):
        return False, None
    x0, y0, x1, y1 = (int(v) for v in boxes[0].clip(min=0))
    return True, (x0, y0, x1, y1)


def _share(scores: np.ndarray) -> float:
    """How well points are seen, 0..1, by their raw scores."""
    return float((scores / _SEEN).clip(0, 1).mean())
