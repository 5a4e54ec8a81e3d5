from __future__ import annotations

import numpy as np
import pytest

from musetalk.face.labels import INNER_MOUTH, NOSE, SKIN, UPPER_LIP, draw_hull, draw_labels, draw_oval
from musetalk.face.landmarks68 import to_68
from musetalk.face.mesh import FaceMesh

CROP = (95, 52, 433, 390)  # 1.5 times the face box


def test_regions_lie_where_the_face_has_them(mesh: FaceMesh, hopper: np.ndarray) -> None:
    points, _ = mesh.landmarks(hopper, mesh.detect(hopper)[0].roi)
    labels = draw_labels(points[:, :2], CROP)
    assert labels.dtype == np.uint8
    assert labels.shape == (512, 512)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, 10, 11, 12}
    rows = {label: np.argwhere(labels == label)[:, 0].mean() for label in (2, 4, 10, 12)}
    assert rows[2] < rows[4] < rows[10] < rows[12]
    columns = {label: np.argwhere(labels == label)[:, 1].mean() for label in (2, 3, 4, 5)}
    assert columns[2] < columns[3]
    assert columns[4] < columns[5]
    assert 0.15 < (labels == 1).mean() < 0.45


def test_a_crop_that_leaves_the_picture_shifts_the_map(mesh: FaceMesh, hopper: np.ndarray) -> None:
    points, _ = mesh.landmarks(hopper, mesh.detect(hopper)[0].roi)
    near, far = draw_labels(points, (0, 0, 512, 512)), draw_labels(points, (-100, -60, 412, 452))
    np.testing.assert_array_equal(far[60:, 100:], near[:-60, :-100])
    assert not draw_labels(points, (5000, 5000, 5512, 5512)).any()


def test_hull_lies_on_the_face_the_mesh_sees(mesh: FaceMesh, hopper: np.ndarray) -> None:
    points, _ = mesh.landmarks(hopper, mesh.detect(hopper)[0].roi)
    hull, drawn = draw_hull(to_68(points), CROP), draw_labels(points, CROP)
    assert set(np.unique(hull)) == {0, SKIN, NOSE, UPPER_LIP, INNER_MOUTH}
    overlap = ((hull > 0) & (drawn > 0)).sum() / ((hull > 0) | (drawn > 0)).sum()
    assert overlap > 0.9
    # The forehead: higher than the brows, which are the highest of the 68 points.
    top = np.flatnonzero((hull > 0).any(axis=1))[0]
    brows = (to_68(points)[17:27, 1].min() - CROP[1]) * 512 / (CROP[3] - CROP[1])
    assert 20 < brows - top < 80
    mouth = np.isin(hull, (UPPER_LIP, INNER_MOUTH))
    assert (mouth & np.isin(drawn, (UPPER_LIP, INNER_MOUTH))).sum() > 0.8 * mouth.sum()


def test_oval_fills_its_box() -> None:
    labels = draw_oval((60, 40, 140, 160), (0, 0, 200, 200))
    rows, columns = np.nonzero(labels == SKIN)
    scale = 512 / 200
    assert (rows.min(), rows.max()) == pytest.approx((40 * scale, 160 * scale), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((60 * scale, 140 * scale), abs=2)
    assert labels[round(100 * scale), round(100 * scale)] == SKIN
