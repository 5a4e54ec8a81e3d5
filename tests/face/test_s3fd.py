"""Faces from S3FD: against the original's, and where the answer is known."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from musetalk.face.s3fd import detect_faces
from musetalk.models.s3fd import S3FD


@pytest.fixture(scope="module")
def network(shared: Path) -> S3FD:
    """With the random weights that the golden boxes were made with."""
    path = shared / "tools" / "make_random_face_models.py"
    spec = importlib.util.spec_from_file_location("make_random_face_models", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    with torch.device("meta"):
        network = S3FD()
    network.load_state_dict(tool.make_s3fd(0), assign=True)
    return network.eval()


@pytest.fixture
def blank_network() -> S3FD:
    """All weights 0: every place has the probability 1/2, and every box is its anchor."""
    network = S3FD()
    for parameter in network.parameters():
        parameter.data.zero_()
    return network.eval()


@pytest.mark.parametrize("name", ["grace_hopper", "sun_180", "black_256x320", "grey_256x320"])
def test_boxes_are_the_originals(network, shared, hopper, name):
    with np.load(shared / "goldens" / "face" / "s3fd.npz") as file:
        golden = {key.partition("/")[2]: file[key] for key in file.files if key.startswith(name)}
        assert name in json.loads(str(file["meta"]))["images"]
    if name.startswith("sun"):
        with np.load(shared / "goldens" / "face" / "dwpose.npz") as file:
            picture = cv2.imdecode(file[f"{name}/frame_png"], cv2.IMREAD_COLOR)[..., ::-1]
    else:
        blank = np.zeros((256, 320, 3), np.uint8)
        picture = {"grace_hopper": hopper, "black_256x320": blank, "grey_256x320": blank + np.uint8(128)}[name]
    boxes, scores = detect_faces(network, picture)
    assert len(boxes) == len(golden["boxes"])
    sides = np.ptp(golden["boxes"].reshape(-1, 2, 2), axis=1).max(axis=1, initial=1)
    assert (np.abs(boxes - golden["boxes"]) <= 3e-5 * sides[:, None] + 1e-4).all()
    np.testing.assert_allclose(scores, golden["scores"], atol=2e-4)
    assert boxes[:1].clip(min=0).astype(int).ravel().tolist() == golden["first_box"].tolist()


@pytest.mark.parametrize(
    ("head", "stride"), [("conv3_3_norm", 4), ("conv4_3_norm", 8), ("fc7", 32), ("conv6_2", 64), ("conv7_2", 128)]
)
def test_boxes_of_each_grid(blank_network, head, stride):
    """A head that sees faces everywhere: a box of four strides around the middle of each place of its grid."""
    getattr(blank_network, f"{head}_mbox_conf").bias.data[-1] = 1.0
    boxes, scores = detect_faces(blank_network, np.zeros((256, 256, 3), np.uint8))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-1)), rtol=1e-5)
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], 4 * stride)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose((centres - stride / 2) % stride, 0)
    assert len(np.unique(centres, axis=0)) == len(centres)


def test_of_overlapping_faces_the_best_stays(blank_network):
    """Two heads see faces everywhere; the surer one is right, and what overlaps it by more than 0.3 is left out."""
    blank_network.conv6_2_mbox_conf.bias.data[1] = 1.0
    blank_network.conv7_2_mbox_conf.bias.data[1] = 3.0
    boxes, scores = detect_faces(blank_network, np.zeros((128, 128, 3), np.uint8))
    assert (boxes[0, 2:] - boxes[0, :2]).tolist() == [512, 512]
    assert scores[0] == scores.max()
    assert (np.diff(scores) <= 0).all()
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = np.maximum(high - low + 1, 0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    overlap = overlap / (areas[:, None] + areas - overlap)
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= 0.3


def test_a_coin_toss_is_no_face(blank_network):
    assert len(detect_faces(blank_network, np.zeros((96, 64, 3), np.uint8))[0]) == 0
    assert len(detect_faces(blank_network, np.zeros((96, 64, 3), np.uint8), min_score=0.4)[0]) > 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 400), (32, 32), (33, 47), (100, 37)])
def test_any_size(blank_network, height, width):
    blank_network.conv7_2_mbox_conf.bias.data[1] = 1.0
    boxes, scores = detect_faces(blank_network, np.zeros((height, width, 3), np.uint8))
    assert boxes.shape == (len(scores), 4)
    assert len(scores) == (1 if min(height, width) >= 32 else 0)
