"""Pictures that break face trackers: a clear answer, no crash, no number that is none, no box outside the frame."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from musetalk.errors import InputError
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_crowd import observe_crowd
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.sources import FaceObservation, TrackRequest
from musetalk.face.track import FaceTrack
from musetalk.face.tracking import track_faces


def look(
    mesh: FaceMesh, picture: np.ndarray, *, min_score: float = 0.5, frames: int = 2
) -> tuple[FaceTrack, list[FaceObservation]]:
    """One selected face, and everyone in the last frame, in a clip of equal frames; whatever is found is checked."""
    clip = np.stack([picture] * frames)
    height, width = picture.shape[:2]
    track = track_faces(clip, source=MeshLandmarks(mesh), min_score=min_score)
    assert track.boxes.shape == (frames, 4)
    x0, y0, x1, y1 = track.boxes[track.valid].T
    assert ((x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= width) & (y1 <= height)).all()
    assert not track.boxes[~track.valid].any()
    request = TrackRequest(
        total=frames,
        count=frames,
        size=(width, height),
        fps=Fraction(25),
        select="largest",
        min_score=min_score,
        still=False,
    )
    everyone = list(observe_crowd(mesh, iter(clip), request))
    assert len(everyone) == frames
    for face in (face for faces in everyone for face in faces):
        assert face.mesh is not None and face.landmarks is not None
        assert np.isfinite(face.mesh).all() and np.isfinite(face.landmarks).all()
        assert min_score <= face.score <= 1
        centre = face.mesh.mean(axis=0)
        assert (centre > -0.25 * np.ptp(face.mesh, axis=0)).all()
        assert (centre < [width, height] + 0.25 * np.ptp(face.mesh, axis=0)).all()
    return track, everyone[-1]


def blank(width: int, height: int, level: int = 0) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def textures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:270, 0:480]
    blobs = rng.integers(0, 256, (27, 48, 3), np.uint8)
    grey = {
        "gradient": x * 255 // 480,
        "checkers": (x // 30 + y // 30) % 2 * 255,
        "stripes": 127 + 127 * np.sin(x / 5),
    }
    return {
        "black": blank(480, 270),
        "white": blank(480, 270, 255),
        "noise": rng.integers(0, 256, (270, 480, 3), np.uint8),
        "blobs": cv2.resize(blobs, (480, 270), interpolation=cv2.INTER_CUBIC),
        **{name: np.repeat(values.astype(np.uint8)[..., None], 3, axis=2) for name, values in grey.items()},
    }


@pytest.mark.parametrize("name", list(textures()))
def test_what_is_no_face_is_not_taken_for_one(mesh: FaceMesh, name: str) -> None:
    track, everyone = look(mesh, textures()[name])
    assert not track.valid.any()
    assert everyone == []


def test_what_people_wear_is_no_face(mesh: FaceMesh, hopper: np.ndarray, astronaut: np.ndarray) -> None:
    for picture in (hopper[340:], astronaut[200:], astronaut[:, 300:]):
        track, everyone = look(mesh, np.ascontiguousarray(picture))
        assert not track.valid.any()
        assert everyone == []


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (1, 400), (400, 1), (4000, 200), (200, 4000)])
def test_odd_sizes(mesh: FaceMesh, width: int, height: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    track, everyone = look(mesh, noise, frames=1)
    assert not track.valid.any()
    assert everyone == []


def test_the_lowest_score_is_bounded_work_and_no_nonsense(mesh: FaceMesh) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert len(look(mesh, noise, min_score=0.01, frames=1)[1]) <= 64


@pytest.mark.parametrize(("width", "height"), [(4000, 200), (200, 4000), (7680, 432)])
@pytest.mark.parametrize("place", [0.02, 0.37, 0.93])
def test_a_face_in_a_strip(mesh: FaceMesh, hopper: np.ndarray, width: int, height: int, place: float) -> None:
    picture = blank(width, height, 70)
    head = cv2.resize(hopper[60:400, 120:400], (156, 190), interpolation=cv2.INTER_AREA)
    x, y = round((width - 156) * (place if width > height else 0.5)), round((height - 190) * place)
    picture[y : y + 190, x : x + 156] = head
    track, everyone = look(mesh, picture)
    assert track.valid.all()
    assert len(everyone) == 1
    for box in track.boxes:
        np.testing.assert_allclose(box, [x + 28, y + 26, x + 132, y + 152], atol=8)


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 0.8])
def test_a_face_cut_by_the_edge_is_placed_well_or_not_found(
    mesh: FaceMesh, hopper: np.ndarray, edge: str, part: float
) -> None:
    x0, y0, x1, y1 = 171, 133, 357, 334
    cut_x, cut_y = round(part * (x1 - x0)), round(part * (y1 - y0))
    window = {
        "left": (slice(None), slice(x0 + cut_x, None)),
        "right": (slice(None), slice(None, x1 - cut_x)),
        "top": (slice(y0 + cut_y, None), slice(None)),
        "bottom": (slice(None, y1 - cut_y), slice(None)),
    }[edge]
    whole, _ = mesh.landmarks(hopper, mesh.detect(hopper)[0].roi)
    offset = np.array([window[1].start or 0, window[0].start or 0])
    track, everyone = look(mesh, np.ascontiguousarray(hopper[window]))
    assert track.valid.all() or part > 0.2
    assert len(everyone) == 1 or part > 0.2
    assert len(everyone) <= 1
    found = [face.mesh for face in everyone]
    if track.mesh is not None:
        found.extend(track.mesh[track.valid])
    for points in found:
        assert np.linalg.norm(points - (whole[:, :2] - offset), axis=1).mean() < 0.1 * (x1 - x0)


@pytest.mark.parametrize("zoom", [1.0, 1.5, 2.0])
def test_a_face_larger_than_the_frame_is_one_face(mesh: FaceMesh, hopper: np.ndarray, zoom: float) -> None:
    w, h = round(120 / zoom), round(140 / zoom)
    track, everyone = look(mesh, cv2.resize(hopper[220 - h : 220 + h, 263 - w : 263 + w], (480, 560)))
    assert track.valid.all()
    assert len(everyone) == 1


def test_grey_pictures_in_three_channels(mesh: FaceMesh, hopper: np.ndarray) -> None:
    grey = np.repeat(hopper.mean(axis=2).astype(np.uint8)[..., None], 3, axis=2)
    track, everyone = look(mesh, grey)
    np.testing.assert_allclose(track.boxes[0], [170, 107, 357, 333], atol=6)
    assert len(everyone) == 1


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_pictures_stored_turned(mesh: FaceMesh, hopper: np.ndarray, quarters: int) -> None:
    track, everyone = look(mesh, np.ascontiguousarray(np.rot90(hopper, quarters)))
    assert track.landmarks is not None and np.isfinite(track.landmarks).all()
    assert [span.reason.split(" ")[:2] for span in track.passed] == [["head", "rolled"]]  # a level crop is of no use
    assert len(everyone) == 1


def test_read_only_and_strided_frames(mesh: FaceMesh, hopper: np.ndarray) -> None:
    mirrored = hopper[:, ::-1]
    mirrored.flags.writeable = False
    assert look(mesh, mirrored)[0].valid.all()


@pytest.mark.parametrize(
    "frame", [np.zeros((40, 40, 3), np.float32), np.zeros((40, 40), np.uint8), np.zeros((40, 40, 4), np.uint8)]
)
def test_wrong_types_are_refused_by_both_paths(mesh: FaceMesh, frame: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        track_faces(frame[None], source=MeshLandmarks(mesh))
    request = TrackRequest(
        total=1, count=1, size=(40, 40), fps=Fraction(25), select="largest", min_score=0.5, still=False
    )
    with pytest.raises(InputError, match="uint8"):
        list(observe_crowd(mesh, iter([frame]), request))
