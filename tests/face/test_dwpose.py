"""Landmarks from DWPose: against the original's, and on pictures in which the place of every point is known."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musetalk.errors import InputError, ModelFileError
from musetalk.face import published
from musetalk.face.dwpose import bust, points_in_boxes, whole_frame_points
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.published import DWPoseLandmarks, open_landmarks
from musetalk.face.roi import mesh_box
from musetalk.face.sources import FaceObservation, TrackRequest
from musetalk.face.tracking import track_faces
from musetalk.models.dwpose import DWPose
from musetalk.models.s3fd import S3FD
from musetalk.profile import Profile

HOPPER_FACE = np.array([165.0, 90.0, 360.0, 340.0])


class SpotFinder(nn.Module):
    """In place of DWPose: every point lies where the picture is brightest; the answer to a mirrored picture is true."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        light = images.mean(1)
        return _bins(light.sum(1)), _bins(light.sum(2))


def _bins(profile: Tensor) -> Tensor:
    """Light per pixel to logits per bin: pixel p is bin 2p, and what lies between is between."""
    between = (profile + F.pad(profile[:, 1:], (0, 1), mode="replicate")) / 2
    bins = torch.stack((profile, between), dim=-1).flatten(1)
    bins = (bins - bins.mean(1, keepdim=True)) / bins.std(1, keepdim=True).clamp(min=1e-6)
    return bins[:, None].expand(-1, 133, -1)


def spot(x: float, y: float, width: int = 640, height: int = 480, radius: float = 12.0) -> np.ndarray:
    """uint8 RGB ``[height, width, 3]``: black but for a soft spot around a point."""
    rows, columns = np.mgrid[0:height, 0:width]
    light = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return np.repeat(light.round().astype(np.uint8)[..., None], 3, axis=2)


def request(count: int, frame: np.ndarray, **options) -> TrackRequest:
    size = frame.shape[1], frame.shape[0]
    values = {"total": count, "count": count, "select": "largest", "min_score": 0.5, "still": False} | options
    return TrackRequest(size=size, fps=Fraction(25), **values)


@pytest.fixture(scope="module")
def network(shared: Path) -> DWPose:
    """With the random weights that the golden points were made with."""
    path = shared / "tools" / "make_random_face_models.py"
    spec = importlib.util.spec_from_file_location("make_random_face_models", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    with torch.device("meta"):
        network = DWPose()
    network.load_state_dict(tool.make_dwpose(0), assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "goldens" / "face" / "dwpose.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def pictures(golden: dict[str, np.ndarray], hopper: np.ndarray, astronaut: np.ndarray) -> dict[str, np.ndarray]:
    names = json.loads(str(golden["meta"]))["images"]
    found = {"grace_hopper": hopper, "astronaut": astronaut}
    for name in set(names) - set(found):
        found[name] = cv2.imdecode(golden[f"{name}/frame_png"], cv2.IMREAD_COLOR)[..., ::-1].copy()
    return {name: found[name] for name in names}


def test_points_are_the_originals_alone_and_in_a_batch(network, golden, pictures):
    frames = [*pictures.values(), *(np.roll(pictures["astronaut"], 9 * i, axis=1) for i in (1, 2, 3))]
    points, scores = whole_frame_points(network, frames)
    assert points.shape == (8, 133, 2) and points.dtype == np.float64
    for i, name in enumerate(pictures):
        np.testing.assert_allclose(points[i], golden[f"{name}/keypoints"], rtol=0, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(scores[i], golden[f"{name}/scores"], rtol=0, atol=2e-3, err_msg=name)
    for i in (0, 7):
        alone, _ = whole_frame_points(network, frames[i : i + 1])
        np.testing.assert_allclose(alone[0], points[i], rtol=0, atol=1e-3)


def test_a_box_has_the_same_points_in_any_batch(network, pictures):
    frames = [pictures["astronaut"], pictures["sun_180"]]
    boxes = [np.array([10.0, 5.0, 300.0, 420.0]), np.array([100.0, 90.0, 240.0, 310.0])]
    together, _ = points_in_boxes(network, frames, boxes)
    alone, _ = points_in_boxes(network, frames[1:], boxes[1:])
    np.testing.assert_allclose(alone[0], together[1], rtol=0, atol=1e-2)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1280, 720), (97, 31), (7, 400)])
def test_points_of_a_whole_frame_lie_within_a_bin(width, height):
    x, y = 0.37 * width, 0.61 * height
    frame = spot(x, y, width, height, radius=max(width, height) / 40 + 1)
    points, scores = whole_frame_points(SpotFinder(), [frame])
    bin_width = max(width * 1.25 / 576, height * 1.25 / 768)
    np.testing.assert_allclose(points[0], np.tile([x, y], (133, 1)), atol=1.6 * bin_width)
    assert (scores > 0).all()


def test_points_without_a_score_lie_where_the_original_puts_them():
    points, scores = whole_frame_points(SpotFinder(), [np.zeros((96, 72, 3), np.uint8)])
    assert (scores <= 0).all()
    # Half a pixel of the input before its first one: the view is 90 x 120 around (36, 48).
    np.testing.assert_allclose(points[0], np.tile([-9 - 0.5 * 90 / 288, -12 - 0.5 * 120 / 384], (133, 1)))


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_points_in_a_box_lie_between_the_bins(scale):
    """At any size of the view the error is far below a bin, and no side is favoured."""
    view = np.array([288, 384]) * scale
    errors = []
    for step in range(9):
        x, y = 400 + 0.23 * step * scale, 300 - 0.17 * step * scale
        box = np.array([x - 0.3 * view[0], y - 0.6 * view[1], x + 0.7 * view[0], y + 0.4 * view[1]])
        points, _ = points_in_boxes(SpotFinder(), [spot(x, y, 1200, 900, radius=5 * scale)], [box])
        assert points.dtype == np.float32
        errors.append(points[0].mean(axis=0) - [x, y])
    bin_width = 1.25 * scale / 2
    assert np.abs(errors).max() < 0.2 * bin_width
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1 * bin_width


def test_a_mirrored_picture_has_mirrored_points(network, hopper):
    """Upstream's own averaging is one bin off here; the pass around a box is not."""
    # The view's pixels p and 287 - p lie as far from the middle of the picture on either side.
    width = 281.25
    middle = (hopper.shape[1] - 1) / 2 + width / 576
    box = np.array([middle - 0.4 * width, 50.0, middle + 0.4 * width, 350.0])
    points, _ = points_in_boxes(network, [hopper, hopper[:, ::-1].copy()], [box, box])
    mirrored = hopper.shape[1] - 1 - points[1, :, 0]
    jaw, other = points[0, 23:40, 0], mirrored[23:40][::-1]
    assert np.median(np.abs(jaw - other)) < 0.05 < width / 576


def test_the_view_around_a_face_is_three_faces_high():
    box = bust(np.array([100.0, 100.0, 180.0, 200.0]))
    assert (box[3] - box[1]) * 1.25 == pytest.approx(300)
    assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(0.75)
    assert (box[0] + box[2]) / 2 == 140
    assert box[1] == 65
    assert np.isfinite(bust(np.zeros(4))).all()


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (-500, -500, -400, -300), (5000, 10, 90000, 20), (-1e6, -1e6, 1e6, 1e6)])
def test_boxes_anywhere_give_numbers(box):
    points, scores = points_in_boxes(SpotFinder(), [spot(10, 10, 64, 48)], [np.array(box, float)])
    assert np.isfinite(points).all() and np.isfinite(scores).all()


def test_no_frames_give_no_points():
    assert whole_frame_points(SpotFinder(), [])[0].shape == (0, 133, 2)
    assert points_in_boxes(SpotFinder(), [], [])[1].shape == (0, 133)


def test_a_network_in_half_precision_is_fed_in_it():
    finder = SpotFinder().half()
    points, _ = points_in_boxes(finder, [spot(320.3, 240.2)], [np.array([200.0, 100, 440, 420])])
    np.testing.assert_allclose(points[0].mean(axis=0), [320.3, 240.2], atol=0.5)


# The source


@pytest.fixture
def source(mesh: FaceMesh) -> DWPoseLandmarks:
    return DWPoseLandmarks(SpotFinder(), mesh=mesh, batch_size=3)  # type: ignore[arg-type]


def drifting(picture: np.ndarray, frames: int) -> np.ndarray:
    return np.stack([np.roll(picture, (2 * i, 3 * i), axis=(0, 1)) for i in range(frames)])


def assert_same(found: list[FaceObservation], expected: list[FaceObservation]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.landmarks is None) == (other.landmarks is None)
        if one.landmarks is not None:
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-3)
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.box == other.box


def test_the_mesh_finds_the_face_and_dwpose_places_the_points(source, mesh, hopper):
    frames = drifting(hopper, 7)
    frames[3] = 0
    found = list(source.observe(iter(frames), request(7, hopper)))
    plain = list(MeshLandmarks(mesh).observe(iter(frames), request(7, hopper)))
    assert [one.landmarks is None for one in found] == [i == 3 for i in range(7)]
    for one, other in zip(found, plain, strict=True):
        if one.landmarks is None:
            assert one == FaceObservation()
            continue
        np.testing.assert_array_equal(one.mesh, other.mesh)
        assert one.landmarks.shape == (68, 2) and one.landmarks.dtype == np.float32
        assert 0 <= one.score <= other.score <= 1
        # The finder's one point is the same everywhere: the brightest of the view around this face.
        box = bust(mesh_box(other.mesh))
        assert (one.landmarks >= box[:2] - 100).all() and (one.landmarks <= box[2:] + 100).all()


@pytest.mark.parametrize("parity", [False, True])
def test_batches_and_memory_change_nothing(mesh, hopper, monkeypatch, parity):
    frames = drifting(hopper, 8)
    asked = request(8, hopper, parity=parity)

    def observe(size: int) -> list[FaceObservation]:
        source = DWPoseLandmarks(SpotFinder(), mesh=mesh, batch_size=size)  # type: ignore[arg-type]
        return list(source.observe(iter(frames), asked))

    expected = observe(8)
    assert_same(observe(1), expected)
    assert_same(observe(3), expected)
    monkeypatch.setattr(published, "_BATCH_BYTES", 2 * hopper.nbytes)
    assert_same(observe(8), expected)


def test_frames_are_taken_a_batch_at_a_time(mesh, hopper):
    source = DWPoseLandmarks(SpotFinder(), mesh=mesh, batch_size=2)  # type: ignore[arg-type]
    for parity in (False, True):
        taken = 0

        def frames() -> Iterator[np.ndarray]:
            nonlocal taken
            for _ in range(10):
                taken += 1
                yield hopper

        observations = source.observe(frames(), request(10, hopper, parity=parity))
        assert taken == 0
        next(observations)
        assert taken == 2


def test_everyone_is_placed_where_they_are(source, two_people):
    frames = [two_people, np.zeros_like(two_people), two_people, two_people, two_people]
    lists = list(source.observe_everyone(iter(frames), request(5, two_people)))
    assert [len(faces) for faces in lists] == [2, 0, 2, 2, 2]
    for faces in lists:
        for face in faces:
            box = bust(mesh_box(face.mesh))
            centre = face.landmarks.mean(axis=0)
            assert (centre >= box[:2] - 100).all() and (centre <= box[2:] + 100).all()


def test_under_parity_points_are_cut_to_whole_pixels(source):
    frames = [spot(300 + i, 200, 640, 480) for i in range(5)]
    found = list(source.observe(iter(frames), request(5, frames[0], parity=True)))
    expected, _ = whole_frame_points(SpotFinder(), frames)
    for one, points in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.landmarks, np.trunc(points[23:91]))
        assert one.mesh is None and one.box is None


def gate_that_says(face: bool) -> S3FD:
    """S3FD that sees a face of 512 pixels at every place of its coarsest grid, or nothing anywhere."""
    gate = S3FD()
    for parameter in gate.parameters():
        parameter.data.zero_()
    gate.conv7_2_mbox_conf.bias.data[1] = 2.0 if face else -2.0
    return gate.eval()


def test_under_parity_the_gate_decides_and_gives_the_spare_box(mesh):
    frame = spot(60, 70, 128, 128)
    for says in (True, False):
        source = DWPoseLandmarks(SpotFinder(), gate_that_says(says), mesh)  # type: ignore[arg-type]
        found = list(source.observe(iter([frame, frame]), request(2, frame, parity=True)))
        assert [one.landmarks is not None for one in found] == [says] * 2
        assert [one.box for one in found] == [(0, 0, 448, 448) if says else None] * 2
    # The landmarks are all one point, which makes no box; upstream then takes the gate's, past the edge as it is.
    source = DWPoseLandmarks(SpotFinder(), gate_that_says(True), mesh)  # type: ignore[arg-type]
    track = track_faces(frame[None], source=source, profile=Profile(parity=True))
    assert track.boxes.tolist() == [[0, 0, 448, 448]]


def test_a_batch_of_nothing_is_refused(mesh):
    with pytest.raises(InputError, match="batch_size is 0"):
        DWPoseLandmarks(SpotFinder(), mesh=mesh, batch_size=0)  # type: ignore[arg-type]


def test_opening_by_name(tmp_path):
    assert open_landmarks("facemesh", tmp_path).name == "facemesh"
    with pytest.raises(InputError, match=r"landmarks is 'openpose'; use one of facemesh, dwpose"):
        open_landmarks("openpose", tmp_path)
    with pytest.raises(ModelFileError, match=r"(?s)DWPose.*missing.*download --models .* --include dwpose"):
        open_landmarks("dwpose", tmp_path / "nowhere", "cpu")
    with pytest.raises(InputError, match="device is 'gpu'"):
        open_landmarks("dwpose", tmp_path, "gpu")


def test_opening_dwpose_and_its_gate(tmp_path):
    def write(network: type[nn.Module], name: str) -> None:
        with torch.device("meta"):
            shapes = {key: value.shape for key, value in network().state_dict().items()}
        path = tmp_path / name
        path.parent.mkdir()
        torch.save({key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}, path)

    write(DWPose, "dwpose/dw-ll_ucoco_384.pth")
    with pytest.raises(ModelFileError, match=r"S3FD.*missing.*not on the Hugging Face hub.*s3fd-619a316812\.pth"):
        open_landmarks("dwpose", tmp_path, "cpu", gate=True)
    write(S3FD, "s3fd/s3fd.pth")
    frame = np.zeros((64, 48, 3), np.uint8)
    for gate, seen in ((None, False), (True, False), (False, True)):  # all zeros: the gate sees no face
        source = open_landmarks("dwpose", tmp_path, "cpu", gate=gate)
        (found,) = source.observe(iter([frame]), request(1, frame, parity=True))
        assert (found.landmarks is not None) == seen
