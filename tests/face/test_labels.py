from __future__ import annotations

import numpy as np

from musetalk.face.labels import draw_labels
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
