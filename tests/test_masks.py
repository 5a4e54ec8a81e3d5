"""Masks: the parser's classes to the soft mask of the paste, against the original code and by construction."""

import numpy as np
import pytest

from musetalk.face.hard_mask import hard_mask, soft_mask
from musetalk.face.masks import PasteMask, Strength, blending_crop, crop_padded
from musetalk.profile import Profile


def test_soft_masks_and_crops_equal_the_original(portrait_golden):
    golden = portrait_golden
    for i, source in enumerate(golden["source_index"]):
        box = tuple(map(int, golden["bbox_v15"][source]))
        crop = blending_crop(box, Profile().expand)
        assert crop == tuple(golden["crop_boxes"][i])
        soft = soft_mask(golden["parse_mask"][i], box, crop, Profile())
        assert soft.shape == (crop[3] - crop[1], crop[2] - crop[0])
        assert soft[: (crop[3] - crop[1]) // 2 - 8].max() == 0 and soft.max() > 250


def test_every_mask_of_the_real_clip_equals_the_original(shared):
    with np.load(shared / "goldens" / "sun_tiny.npz") as golden:
        labels, masks, sources, boxes = (golden[k] for k in ("parse_argmax", "parse_mask", "source_index", "bbox_v15"))
        for i, source in enumerate(sources):
            box = tuple(map(int, boxes[source]))
            crop = blending_crop(box, 1.5)
            hard = hard_mask(labels[i], Profile())
            np.testing.assert_array_equal(hard, masks[i])
            np.testing.assert_array_equal(soft_mask(hard, box, crop, Profile()), golden[f"mask_offline_{i}"])
            realtime = Profile(blur_ratio=0.1)
            np.testing.assert_array_equal(soft_mask(hard, box, crop, realtime), golden[f"mask_realtime_{i}"])


@pytest.mark.parametrize(
    ("mode", "classes"), [("raw", {1, 11, 12, 13}), ("neck", {1, 11, 12, 13, 14}), ("jaw", {11, 12, 13})]
)
def test_modes_keep_their_classes(mode, classes):
    labels = np.zeros((512, 512), dtype=np.uint8)
    for label in range(19):
        # The jaw mode's skin is moved by its kernels: look at the other classes only.
        if mode != "jaw" or label != 1:
            labels[20 * label : 20 * label + 10, 250:260] = label
    kept = hard_mask(labels, Profile(parsing_mode=mode))
    assert set(labels[kept > 0]) == classes
    assert set(np.unique(kept)) == {0, 255}


def test_jaw_mode_grows_skin_further_up_than_down():
    labels = np.zeros((512, 512), dtype=np.uint8)
    labels[250, 256] = 1
    rows, columns = np.nonzero(hard_mask(labels, Profile(parsing_mode="jaw")))
    # Spec section 6.1: 16 px up, 6 px down, 10 px sideways.
    assert (rows.min(), rows.max()) == (250 - 16, 250 + 6)
    assert (columns.min(), columns.max()) == (256 - 10, 256 + 10)


def test_wider_cheeks_keep_more_skin():
    labels = np.zeros((512, 512), dtype=np.uint8)
    labels[150:400, 120:400] = 1
    areas = [
        int((hard_mask(labels, Profile(left_cheek_width=width, right_cheek_width=width)) > 0).sum())
        for width in (20, 90, 160)
    ]
    assert areas[0] < areas[1] < areas[2]


def test_jaw_mode_leaves_the_nose_out():
    labels = np.ones((512, 512), dtype=np.uint8)
    labels[200:260, 230:280] = 10
    kept = hard_mask(labels, Profile())
    assert kept[200:260, 230:280].max() == 0 and kept[300, 256] == 255


@pytest.mark.parametrize(("side", "kernel"), [(200, 11), (300, 15), (374, 19), (600, 31)])
def test_blur_reaches_as_far_as_its_kernel(side, kernel):
    hard = np.full((512, 512), 255, dtype=np.uint8)
    crop, box = (0, 0, side, side), (side // 4, side // 4, 3 * side // 4, 3 * side // 4)
    soft = soft_mask(hard, box, crop, Profile())
    blurred_rows = np.flatnonzero(soft[:, side // 2])
    assert side // 2 - kernel // 2 <= blurred_rows[0] < side // 2


def test_crop_outside_the_picture_is_black():
    frame = np.full((10, 12, 3), 7, dtype=np.uint8)
    crop = crop_padded(frame, (-3, -2, 15, 14))
    assert crop.shape == (16, 18, 3)
    assert (crop[2:12, 3:15] == 7).all() and crop.sum() == frame.sum()
    np.testing.assert_array_equal(crop_padded(frame, (2, 3, 8, 9)), frame[3:9, 2:8])


@pytest.mark.parametrize("box", [(-20, 30, 60, 120), (40, 30, 140, 120), (30, -10, 90, 60), (0, 0, 100, 100)])
def test_mask_region_stays_in_the_picture(box):
    crop = blending_crop(box, 1.5)
    soft = soft_mask(np.full((512, 512), 255, dtype=np.uint8), box, crop, Profile())
    mask = PasteMask.from_soft_mask(soft, box, crop, (100, 100))
    x0, y0, x1, y1 = mask.region
    assert 0 <= x0 < x1 <= 100 and 0 <= y0 < y1 <= 100
    assert mask.alpha.shape == (y1 - y0, x1 - x0)


def test_mask_without_face_pixels_is_empty():
    box = (20, 20, 80, 80)
    mask = PasteMask.from_soft_mask(np.zeros((90, 90), dtype=np.uint8), box, (5, 5, 95, 95), (100, 100))
    assert mask.region == (0, 0, 0, 0) and mask.alpha.size == 0


def strengthened(strength, turn=None):
    """A mask that is opaque in the lower half of its box, but for ``strength``, over a picture of 100 x 100."""
    box = (20, 20, 80, 80)
    crop = blending_crop(box, 1.5)
    soft = soft_mask(np.full((512, 512), 255, dtype=np.uint8), box, crop, Profile())
    mask = PasteMask.from_soft_mask(soft, box, crop, (100, 100), turn=turn, strength=strength)
    full = np.zeros((100, 100), dtype=np.uint8)
    x0, y0, x1, y1 = mask.region
    full[y0:y1, x0:x1] = mask.alpha
    return full


TURNS = [None, (50.0, 50.0, 0.4)]


@pytest.mark.parametrize("turn", TURNS)
def test_full_strength_changes_nothing(turn):
    white, black = np.full((100, 100), 255, dtype=np.uint8), np.zeros((100, 100), dtype=np.uint8)
    np.testing.assert_array_equal(strengthened(Strength(1.0, white, black), turn), strengthened(None, turn))


@pytest.mark.parametrize("turn", TURNS)
def test_strengths_multiply_and_are_rounded_once(turn):
    rng = np.random.default_rng(0)
    allowed, hidden = rng.integers(0, 256, (2, 100, 100), dtype=np.uint8)
    full, weak = strengthened(None, turn), strengthened(Strength(0.3, allowed, hidden), turn)
    expected = full * 0.3 * (allowed / 255) * ((255 - hidden.astype(float)) / 255)
    # A turned mask is not rounded before it is weakened.
    assert np.abs(weak - expected).max() < (0.51 if turn is None else 0.66)


@pytest.mark.parametrize("turn", TURNS)
def test_hidden_pixels_are_out_exactly(turn):
    hidden = np.zeros((100, 100), dtype=np.uint8)
    hidden[:, 40:60] = 255
    full, weak = strengthened(None, turn), strengthened(Strength(hidden=hidden), turn)
    assert not weak[:, 40:60].any() and full[:, 40:60].any()
    np.testing.assert_array_equal(weak[:, :40], full[:, :40])


def test_no_strength_pastes_nothing():
    assert not strengthened(Strength(0.0)).any()
    assert not strengthened(Strength(allowed=np.zeros((100, 100), dtype=np.uint8))).any()


def test_faded_mask():
    box = (20, 20, 80, 80)
    crop = blending_crop(box, 1.5)
    mask = PasteMask.from_soft_mask(np.full((90, 90), 200, dtype=np.uint8), box, crop, (100, 100))
    assert mask.faded(1.0) is mask
    assert (mask.faded(0.5).alpha == 100).all() and mask.faded(0.5).region == mask.region


def test_turned_mask_is_the_level_one_rotated():
    level, quarter = strengthened(None), strengthened(None, (49.5, 49.5, np.pi / 2))
    # The head's chin points to the left where its roll is a quarter clockwise.
    assert np.abs(quarter.astype(int) - np.rot90(level, -1)).max() <= 1


@pytest.mark.parametrize("corner", [(0, 0), (100, 0), (0, 100), (100, 100), (300, 50)])
def test_turned_mask_past_the_picture_is_clipped(corner):
    box = (corner[0] - 30, corner[1] - 30, corner[0] + 30, corner[1] + 30)
    crop = blending_crop(box, 1.5)
    soft = np.full((90, 90), 255, dtype=np.uint8)
    mask = PasteMask.from_soft_mask(soft, box, crop, (100, 100), turn=(*map(float, corner), 0.6))
    x0, y0, x1, y1 = mask.region
    assert 0 <= x0 <= x1 <= 100 and 0 <= y0 <= y1 <= 100
    assert mask.alpha.shape == (y1 - y0, x1 - x0) and (mask.alpha.size > 0) == (corner != (300, 50))
