"""The paste, to the last bit: against the original's output and against Pillow's own arithmetic."""

import cv2
import numpy as np
import pytest
from PIL import Image

from musetalk.blend import paste_face
from musetalk.face.masks import PasteMask, blending_crop, soft_mask
from musetalk.profile import Profile


@pytest.mark.parametrize(("kind", "blur_ratio"), [("offline", 0.05), ("realtime", 0.1)])
def test_blended_frames_equal_the_original(portrait_golden, kind, blur_ratio):
    golden = portrait_golden
    height, width = golden["frames"].shape[1:3]
    for i, source in enumerate(golden["source_index"]):
        box = tuple(map(int, golden["bbox_v15"][source]))
        crop = blending_crop(box, 1.5)
        soft = soft_mask(golden["parse_mask"][i], box, crop, Profile(blur_ratio=blur_ratio))
        frame = golden["frames"][source].copy()
        paste_face(frame, golden["decoded"][i], PasteMask.from_soft_mask(soft, box, crop, (width, height)))
        np.testing.assert_array_equal(frame, golden[f"blended_{kind}"][i])


def pillow_paste(frame, face, box, crop, soft):
    """The composite written with Pillow, as the original does it."""
    picture = Image.fromarray(frame)
    large = picture.crop(crop)
    sized = cv2.resize(face, (box[2] - box[0], box[3] - box[1]))
    large.paste(Image.fromarray(sized), (box[0] - crop[0], box[1] - crop[1]))
    picture.paste(large, crop[:2], Image.fromarray(soft))
    return np.asarray(picture)


@pytest.mark.parametrize("box", [(60, 40, 140, 150), (-20, 40, 60, 130), (150, 100, 230, 210), (30, -15, 110, 70)])
def test_paste_equals_pillow_even_past_the_picture(box):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (180, 200, 3), dtype=np.uint8)
    face = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    crop = blending_crop(box, 1.5)
    side = crop[2] - crop[0]
    soft = rng.integers(0, 256, (side, side), dtype=np.uint8)
    expected = pillow_paste(frame, face, box, crop, soft)
    blended = frame.copy()
    paste_face(blended, face, PasteMask.from_soft_mask(soft, box, crop, (200, 180)))
    np.testing.assert_array_equal(blended, expected)


def test_pixels_outside_the_mask_stay(portrait):
    box = (139, 60, 232, 186)
    crop = blending_crop(box, 1.5)
    soft = soft_mask(np.full((512, 512), 255, dtype=np.uint8), box, crop, Profile())
    mask = PasteMask.from_soft_mask(soft, box, crop, (portrait.shape[1], portrait.shape[0]))
    blended = portrait.copy()
    paste_face(blended, np.zeros((256, 256, 3), dtype=np.uint8), mask)
    touched = np.zeros(portrait.shape[:2], dtype=bool)
    x0, y0, x1, y1 = mask.region
    touched[y0:y1, x0:x1] = mask.alpha > 0
    np.testing.assert_array_equal(blended[~touched], portrait[~touched])
    assert (blended[touched] != portrait[touched]).mean() > 0.9


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_any_face_size_lands_in_the_same_place(portrait, size):
    box = (139, 60, 232, 186)
    crop = blending_crop(box, 1.5)
    soft = soft_mask(np.full((512, 512), 255, dtype=np.uint8), box, crop, Profile())
    mask = PasteMask.from_soft_mask(soft, box, crop, (portrait.shape[1], portrait.shape[0]))
    ramp = np.linspace(0, 255, size).round().astype(np.uint8)
    face = np.broadcast_to(ramp[:, None, None], (size, size, 3)).copy()
    blended = portrait.copy()
    paste_face(blended, face, mask)
    x, y = 185, 160
    assert mask.alpha[y - mask.region[1], x - mask.region[0]] == 255
    assert abs(int(blended[y, x, 0]) - 255 * (y - box[1] + 0.5) / (box[3] - box[1])) < 4
