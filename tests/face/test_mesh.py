from __future__ import annotations

import json
import threading
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from musetalk.errors import InputError
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh
from musetalk.face.roi import Roi
from musetalk.face.views import QUARTER, looks

# The goldens were made with OpenCV 4, whose warps interpolate in fixed point; OpenCV 5 does it in floats.
STILL_LIMIT_PX = 0.05 if cv2.__version__ < "5" else 0.12


def golden_images(shared: Path, names: list[str]) -> dict[str, np.ndarray]:
    """RGB pictures by golden name: the portraits, and ``sun_NNN``, frame NNN of the clip."""
    data = shared / "data"
    portraits = {"grace_hopper": "grace_hopper.jpg", "astronaut": "astronaut.png"}
    wanted = {int(n[4:]): n for n in names if n not in portraits}
    images = {n: np.array(Image.open(data / portraits[n]).convert("RGB")) for n in names if n in portraits}
    with av.open(data / "sun.mp4") as clip:
        for i, frame in enumerate(clip.decode(video=0)):
            if i in wanted:
                images[wanted[i]] = frame.to_ndarray(format="rgb24")
            if i >= max(wanted):
                break
    return images


def test_detections_and_mesh_are_mediapipes(shared: Path, mesh: FaceMesh) -> None:
    golden = np.load(shared / "goldens" / "face" / "facemesh.npz")
    for name, rgb in golden_images(shared, json.loads(str(golden["meta"]))["images"]).items():
        found = mesh.detect(rgb)
        assert len(found) == len(golden[f"{name}/scores"])
        np.testing.assert_allclose([d.box for d in found], golden[f"{name}/boxes"], atol=STILL_LIMIT_PX)
        np.testing.assert_allclose([d.keypoints for d in found], golden[f"{name}/keypoints"], atol=STILL_LIMIT_PX)
        np.testing.assert_allclose([d.score for d in found], golden[f"{name}/scores"], atol=1e-3)
        points, presence = mesh.landmarks(rgb, found[0].roi)
        np.testing.assert_allclose(points, golden[f"{name}/landmarks"], atol=STILL_LIMIT_PX)
        assert presence > 0.99


def test_tracking_follows_mediapipe(shared: Path, mesh: FaceMesh) -> None:
    golden = np.load(shared / "goldens" / "face" / "facemesh.npz")
    names = [f"sun_{i:03d}" for i in golden["sun_track/frames"]]
    images = golden_images(shared, names)
    roi = mesh.detect(images[names[0]])[0].roi
    errors = []
    for name, wanted in zip(names, golden["sun_track/landmarks"], strict=True):
        points, _ = mesh.landmarks(images[name], roi)
        roi = Roi.around_mesh(points)
        errors.append(np.abs(points[:, :2] - wanted[:, :2]))
    assert np.mean(errors) < 0.02
    assert np.max(errors) < 0.1


@pytest.mark.parametrize("network", ["_detector", "_landmarker"])
def test_a_batch_of_eight_equals_eight_batches_of_one(mesh: FaceMesh, network: str) -> None:
    size = {"_detector": 128, "_landmarker": 192}[network]
    graph = getattr(mesh, network)
    batch = torch.rand(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = graph(batch)
        single = [graph(one[None]) for one in batch]
    for i, output in enumerate(whole):
        torch.testing.assert_close(output, torch.cat([s[i] for s in single]), rtol=1e-4, atol=1e-3)


def test_meshes_of_several_faces_are_those_of_each(mesh: FaceMesh, two_people: np.ndarray) -> None:
    rois = [d.roi for d in mesh.detect(two_people, every_tiling=True)] * 6
    points, presence = mesh.meshes(two_people, rois)
    assert points.shape == (12, 468, 3) and points.dtype == np.float32 and presence.shape == (12,)
    for roi, one, score in zip(rois[:2], points[10:], presence[10:], strict=True):
        alone, alone_score = mesh.landmarks(two_people, roi)
        np.testing.assert_allclose(one, alone, atol=1e-2)
        assert score == pytest.approx(alone_score, abs=1e-3)
    assert mesh.meshes(two_people, [])[0].shape == (0, 468, 3)


@pytest.mark.parametrize("kind", ["black", "noise"])
def test_nothing_is_hallucinated(mesh: FaceMesh, hopper: np.ndarray, kind: str) -> None:
    rng = np.random.default_rng(0)
    blank = np.zeros_like(hopper) if kind == "black" else rng.integers(0, 256, hopper.shape, np.uint8)
    _, presence = mesh.landmarks(blank, mesh.detect(hopper)[0].roi)
    assert presence < 0.01
    assert mesh.mesh_in_box(blank, (170, 107, 357, 333)) is None


def test_mesh_in_box_is_the_mesh_of_the_face_in_it(mesh: FaceMesh, two_people: np.ndarray) -> None:
    points = mesh.mesh_in_box(two_people, (179, 60, 272, 176))
    assert points is not None
    wanted, _ = mesh.landmarks(two_people, mesh.detect(two_people[:, :512])[0].roi)
    assert np.abs(to_68(points) - to_68(wanted)).mean() < 1.5


def test_every_tiling_finds_the_small_face_beside_the_large_one(mesh: FaceMesh, two_people: np.ndarray) -> None:
    assert len(mesh.detect(two_people)) == 1
    centres = sorted(float(d.box[[0, 2]].mean()) for d in mesh.detect(two_people, every_tiling=True))
    np.testing.assert_allclose(centres, [226, 780], atol=15)


@pytest.mark.parametrize(("turn", "degrees"), [(QUARTER, 90), (-QUARTER, -90), (2 * QUARTER, 180)])
def test_detections_in_a_turned_view_are_in_the_picture(
    mesh: FaceMesh, hopper: np.ndarray, turn: float, degrees: float
) -> None:
    upright = mesh.detect(hopper)[0]
    matrix = cv2.getRotationMatrix2D((256, 300), -degrees, 1)  # clockwise on screen, as a view's angle is
    picture = cv2.warpAffine(hopper, matrix, (512, 600))
    (found,) = mesh.detect(picture, turns=[turn])
    wanted = np.concatenate([upright.keypoints, upright.box.reshape(2, 2)]) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(found.keypoints, wanted[:6], atol=12)
    box = np.concatenate([wanted[6:].min(axis=0), wanted[6:].max(axis=0)])
    np.testing.assert_allclose(found.box, box, atol=20)


@pytest.mark.parametrize(("width", "height", "most"), [(1280, 720, 12), (720, 720, 14), (4000, 200, 64), (1, 9000, 64)])
def test_tiles_cover_the_picture_in_bounded_number(width: int, height: int, most: int) -> None:
    steps = looks(width, height)
    assert sum(map(len, steps)) <= most
    for views in steps:
        across = sorted((v.cx - v.side / 2, v.cx + v.side / 2) for v in views)
        down = sorted((v.cy - v.side / 2, v.cy + v.side / 2) for v in views)
        for spans, extent in ((across, width), (down, height)):
            assert spans[0][0] <= 1e-6 and spans[-1][1] >= extent - 1e-6
            assert all(b[0] <= a[1] for a, b in pairwise(spans))


def test_loading_touches_neither_the_random_stream_nor_other_threads() -> None:
    torch.manual_seed(7)
    wanted, cores = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(7)
    FaceMesh.load()
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == cores
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [cores]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(mesh: FaceMesh, picture: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        mesh.detect(picture)
