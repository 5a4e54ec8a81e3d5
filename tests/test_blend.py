"""The paste, to the last bit: against the original's output and against Pillow's own arithmetic."""

import cv2
import numpy as np
import pytest
from PIL import Image

from musetalk.blend import paste_face
from musetalk.color_match import match_color
from musetalk.face.hard_mask import soft_mask
from musetalk.face.masks import PasteMask, blending_crop
from musetalk.latents import crop_face
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


BOX = (139, 60, 232, 186)


def white_mask(size, turn=None, color_match=False, box=BOX):
    crop = blending_crop(box, 1.5)
    soft = soft_mask(np.full((512, 512), 255, dtype=np.uint8), box, crop, Profile())
    return PasteMask.from_soft_mask(soft, box, crop, size, turn=turn, color_match=color_match)


@pytest.mark.parametrize("box", [BOX, (-30, 100, 63, 226), (330, 200, 423, 326), (150, -40, 243, 86)])
@pytest.mark.parametrize("angle", [0.0, 0.45, -1.2])
def test_a_turned_face_goes_back_where_it_was_cut(portrait, angle, box):
    turn = ((box[0] + box[2]) / 2 + 0.3, (box[1] + box[3]) / 2, angle)
    frame = cv2.GaussianBlur(portrait, (0, 0), 2)
    mask = white_mask((384, 320), turn, box=box)
    blended = frame.copy()
    paste_face(blended, crop_face(frame, box, turn), mask)
    x0, y0, x1, y1 = mask.region
    touched = np.zeros(frame.shape[:2], dtype=bool)
    touched[y0:y1, x0:x1] = mask.alpha > 0
    difference = np.abs(blended.astype(int) - frame)
    assert touched.any() and not difference[~touched].any()
    # Black lies next to the picture's edge, and is mixed into the pixels there.
    inner = touched.copy()
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
    assert difference[inner].mean() < 1 and difference[inner].max() < 16
    paste_face(blended, np.zeros((256, 256, 3), dtype=np.uint8), mask)
    assert (blended[y0:y1, x0:x1][mask.alpha == 255] == 0).all()


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_any_face_size_lands_in_the_same_turned_place(portrait, size):
    box, turn = (140, 60, 232, 186), (186.0, 123.0, 0.5)
    mask = white_mask((384, 320), turn, box=box)
    ramp = np.linspace(0, 255, size).round().astype(np.uint8)
    blended = portrait.copy()
    paste_face(blended, np.broadcast_to(ramp[:, None, None], (size, size, 3)).copy(), mask)
    down = 40  # pixels below the pivot, in the turned picture
    x, y = round(turn[0] - down * np.sin(0.5)), round(turn[1] + down * np.cos(0.5))
    x0, y0, *_ = mask.region
    assert mask.alpha[y - y0, x - x0] == 255
    assert abs(int(blended[y, x, 0]) - 255 * (turn[1] + down - box[1] + 0.5) / (box[3] - box[1])) < 5


def pasted(frame, face, **options):
    blended, mask = frame.copy(), white_mask((frame.shape[1], frame.shape[0]), **options)
    paste_face(blended, face, mask)
    x0, y0, x1, y1 = mask.region
    return blended[y0:y1, x0:x1][mask.alpha > 200].astype(int)


@pytest.mark.parametrize("turn", [None, (185.0, 123.0, 0.4)])
def test_colour_match_pulls_a_tinted_face_back(portrait, turn):
    face = crop_face(portrait, BOX, turn)
    tinted = (face * 0.9 + [12, -6, 20]).clip(0, 255).astype(np.uint8)
    wanted = pasted(portrait, face, turn=turn)
    off = np.abs((pasted(portrait, tinted, turn=turn) - wanted).mean(axis=0))
    matched = np.abs((pasted(portrait, tinted, turn=turn, color_match=True) - wanted).mean(axis=0))
    assert off.max() > 5 and matched.max() < 2


@pytest.mark.parametrize("turn", [None, (185.0, 123.0, 0.4)])
def test_colour_match_leaves_a_face_of_the_right_colour(portrait, turn):
    face = crop_face(portrait, BOX, turn)
    matched, plain = (pasted(portrait, face, turn=turn, color_match=on) for on in (True, False))
    assert np.abs(matched - plain).max() <= 1


def ring(opaque=255):
    """A mask of 60 x 60 with a soft rim 6 px wide."""
    far = np.minimum.reduce(np.meshgrid(*2 * [np.minimum(np.arange(60), np.arange(60)[::-1])]))
    return (np.minimum(far / 6, 1) * opaque).round().astype(np.uint8)


def test_colours_inside_do_not_count():
    rng = np.random.default_rng(0)
    footage = rng.integers(90, 110, (60, 60, 3), dtype=np.uint8)
    face = footage + np.uint8(10)
    face[15:45, 15:45] = [200, 0, 0]
    for opaque in (255, 90):  # whole, and in a cross-fade
        matched = match_color(face, footage, ring(opaque)).astype(int)
        assert np.abs(matched - footage)[ring() < 255].max() <= 1
        assert (matched[20:40, 20:40] == [190, 0, 0]).all()


def test_something_else_in_the_rim_is_left_out():
    rng = np.random.default_rng(0)
    footage = rng.integers(90, 110, (60, 60, 3), dtype=np.uint8)
    face = footage + np.uint8(10)
    footage[40:] = [10, 20, 240]  # a collar
    assert np.abs(match_color(face, footage, ring())[:38].astype(int) - footage[:38]).max() <= 1


def test_a_flat_or_tiny_rim_is_no_measure():
    flat = np.full((60, 60, 3), 100, dtype=np.uint8)
    face = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    # The spread is reduced by a fifth, not to nothing.
    assert match_color(face, flat, ring()).std() > 0.6 * face.std()
    small = np.zeros((60, 60), dtype=np.uint8)
    small[3:6, 3:6] = 128
    for alpha in (small, np.full((60, 60), 255, dtype=np.uint8)):
        assert match_color(face, flat, alpha) is face
