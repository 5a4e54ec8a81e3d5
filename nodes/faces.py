"""Faces found by ComfyUI's own nodes, as the engine takes them; nothing here needs ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..musetalk.errors import InputError
from ..musetalk.face.given import GivenFaces
from ..musetalk.face.landmarks68 import to_68
from ..musetalk.face.sources import FaceObservation

_MESH_POINTS = 468  # further points are the irises
_IBUG_POINTS = 68  # further points of a POSE_KEYPOINT are the pupils
# Coordinates this small are parts of the picture, not pixels: a face may reach a little out of it.
_LARGEST_PART = 2.0
# Below it, writers of POSE_KEYPOINT leave a point out; those that never do write it for faces that are not there.
_LEAST_CONFIDENCE = 0.3
_LARGEST_PIXEL = 1_000_000

Faces = list[list[FaceObservation]]


def given_faces(
    size: tuple[int, int], *, landmarks: Any = None, boxes: Any = None, pose_keypoints: Any = None
) -> GivenFaces | None:
    """What other nodes found, for the engine to select from and to follow; None where nothing is connected.

    size: width and height of the footage; landmarks and key points of the same footage at another size are scaled.
    landmarks: a FACE_LANDMARKS. boxes: a BOUNDING_BOX in pixels of the footage. pose_keypoints: a POSE_KEYPOINT.
    Raises InputError for several at once, and for other layouts.
    """
    connected = {"landmarks": landmarks, "boxes": boxes, "pose_keypoints": pose_keypoints}
    names = [name for name, value in connected.items() if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} all say where the faces are; connect one of them")
    read: dict[str, Callable[[], Faces]] = {
        "landmarks": lambda: landmark_faces(landmarks, size),
        "boxes": lambda: box_faces(boxes),
        "pose_keypoints": lambda: pose_faces(pose_keypoints, size),
    }
    return GivenFaces(read[names[0]]())


def landmark_faces(landmarks: Any, size: tuple[int, int]) -> Faces:
    """The faces of each frame of a FACE_LANDMARKS; a 478-point mesh is kept, so that masks can be drawn from it."""
    if not isinstance(landmarks, dict) or not _is_list(landmarks.get("frames")) or not len(landmarks["frames"]):
        raise InputError("the landmarks input is no FACE_LANDMARKS; connect a face landmark detector")
    canvas = _canvas("landmarks", landmarks.get("image_size") or size[::-1])
    return [
        [_landmark_face(face, canvas, size) for face in _frame("landmarks", frame)] for frame in landmarks["frames"]
    ]


def box_faces(boxes: Any) -> Faces:
    """The faces of each frame of a BOUNDING_BOX: one box, a list of boxes (one frame), or a list of boxes per frame."""
    frames = [boxes] if isinstance(boxes, dict) else boxes
    if not _is_list(frames) or not len(frames):
        raise InputError("the boxes input is no BOUNDING_BOX; connect a face detector")
    if all(isinstance(entry, dict) for entry in frames):
        frames = [frames]
    return [[_box_face(box) for box in _frame("boxes", frame)] for frame in frames]


def pose_faces(poses: Any, size: tuple[int, int]) -> Faces:
    """The faces of each frame of a POSE_KEYPOINT, in pixels or in parts of its canvas.

    A person without face points, with one of the 68 left out, or with hardly any confidence in them has no face.
    """
    frames = [poses] if isinstance(poses, dict) else poses
    if not _is_list(frames) or not len(frames):
        raise InputError("the pose_keypoints input is no POSE_KEYPOINT; connect a pose estimator that sees faces")
    return [_pose_frame(frame, size) for frame in frames]


def _landmark_face(face: Any, canvas: tuple[float, float], size: tuple[int, int]) -> FaceObservation:
    points = _numbers("landmarks", face.get("landmarks_xy") if isinstance(face, dict) else face)
    count = len(points) if points.ndim == 2 and points.shape[1] >= 2 else 0
    if count != _IBUG_POINTS and count < _MESH_POINTS:
        raise InputError(
            f"the landmarks input has faces of {list(points.shape)} points; MuseTalk reads the 478-point mesh, its "
            f"first {_MESH_POINTS} points, or {_IBUG_POINTS} iBUG points"
        )
    points = _in_footage(points[:_MESH_POINTS, :2], canvas, size)
    if count == _IBUG_POINTS:
        return FaceObservation(landmarks=points, score=1.0)
    return FaceObservation(landmarks=to_68(points), mesh=points, score=1.0)


def _box_face(box: Any) -> FaceObservation:
    try:
        sides = [float(box[name]) for name in ("x", "y", "width", "height")]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the boxes input needs x, y, width and height for each box") from error
    x, y, width, height = _numbers("boxes", sides).tolist()
    if width < 1 or height < 1:
        raise InputError(f"the boxes input has a box of {width:g} x {height:g} pixels; a face needs more")
    return FaceObservation(box=(int(x), int(y), int(x + width), int(y + height)), score=1.0)


def _pose_frame(frame: Any, size: tuple[int, int]) -> list[FaceObservation]:
    people = frame.get("people") if isinstance(frame, dict) else None
    if people is None or not _is_list(people):
        raise InputError("the pose_keypoints input has frames without people; animals are not understood")
    canvas = _canvas("pose_keypoints", (frame.get("canvas_height"), frame.get("canvas_width")))
    faces = (_pose_face(person, canvas, size) for person in people)
    return [face for face in faces if face is not None]


def _pose_face(person: Any, canvas: tuple[float, float], size: tuple[int, int]) -> FaceObservation | None:
    if not isinstance(person, dict):
        raise InputError("the pose_keypoints input lists people that are no objects of key points")
    written = person.get("face_keypoints_2d")
    values = _numbers("pose_keypoints", [] if written is None else written)
    if not values.size:
        return None
    if values.size % 3 or values.size < 3 * _IBUG_POINTS:
        raise InputError(
            f"the pose_keypoints input has faces of {values.size} numbers; {_IBUG_POINTS} points or more are needed, "
            "each x, y and confidence"
        )
    points = values.reshape(-1, 3)[:_IBUG_POINTS]
    confidence = points[:, 2]
    if confidence.min() <= 0 or confidence.mean() < _LEAST_CONFIDENCE:
        return None
    return FaceObservation(landmarks=_in_footage(points[:, :2], canvas, size), score=1.0)


def _in_footage(points: np.ndarray, canvas: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """Points in pixels of the canvas, or in parts of it, to pixels of the footage."""
    whole = (1.0, 1.0) if np.abs(points).max() <= _LARGEST_PART else canvas
    return points * (np.array(size, np.float32) / np.array(whole, np.float32))


def _canvas(name: str, canvas: Any) -> tuple[float, float]:
    """Width and height that a socket's coordinates belong to, from its height and width."""
    try:
        height, width = (float(side) for side in canvas)
    except (TypeError, ValueError):
        height = width = 0.0
    if not (1 <= height <= _LARGEST_PIXEL and 1 <= width <= _LARGEST_PIXEL):
        raise InputError(f"the {name} input belongs to a picture of {canvas} (height, width), which is no size")
    return width, height


def _frame(name: str, frame: Any) -> Sequence[Any]:
    if not _is_list(frame):
        raise InputError(f"the {name} input has a {type(frame).__name__} for a frame; a list of faces is needed")
    return frame


def _numbers(name: str, values: Any) -> np.ndarray:
    """float32, all of them finite and not beyond any picture."""
    try:
        numbers = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {name} input holds something that is no number: {error}") from error
    if not (np.abs(numbers) <= _LARGEST_PIXEL).all():
        raise InputError(f"the {name} input holds numbers that are no place in a picture (NaN, or too large)")
    return numbers


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))
