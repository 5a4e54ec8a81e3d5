"""Stills, poses and takes: what a clip of a synthetic face rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from musetalk.errors import InputError
from musetalk.face.boxes import face_place
from musetalk.face.tracking import track_faces
from musetalk.latents import crop_face
from musetalk.profile import Profile
from musetalk.training.synthetic.bend import Bend
from musetalk.training.synthetic.drawn import draw_face
from musetalk.training.synthetic.photos import PHOTOS, photo_still, portrait, vary
from musetalk.training.synthetic.scene import photograph
from musetalk.training.synthetic.still import MASKED_FROM, SIZE, Still
from musetalk.training.synthetic.take import Take
from musetalk.training.synthetic.warp import mouth_shape, render, warp_maps

ROOT = Path(__file__).resolve().parents[3]
FILES = {"astronaut": ROOT / "demo" / "astronaut.png", "hopper": ROOT / "tests" / "data" / "grace_hopper.jpg"}

# jaw, wide, pucker, press, tuck, tongue
SILENT, SHUT, OPEN = (0, 0, 0, 0.25, 0, 0), (0, 0, 0.05, 1, 0, 0), (1, 0, 0, 0, 0, 0)
SPREAD, ROUND, TUCKED = (0.2, 0.8, 0, 0, 0, 0.2), (0.2, -0.3, 1, 0, 0, 0), (0.05, 0.1, 0, 0, 1, 0)
POSES = [SILENT, SHUT, OPEN, SPREAD, ROUND, TUCKED, (1, 1, 1, 1, 1, 1), (1, 1, 0, 0, 0, 1), (0.7, -1, 1, 0, 0, 0)]


def stills() -> list[Still]:
    photos = [photo_still(name) for name in PHOTOS]
    rng = np.random.default_rng(7)
    return [*photos, *(vary(photo, rng) for photo in photos for _ in range(2)), *(draw_face(rng) for _ in range(4))]


@pytest.fixture(scope="module", name="stills")
def _stills() -> list[Still]:
    return stills()


@pytest.mark.parametrize("name", PHOTOS)
def test_photo_is_the_engines_crop(name: str) -> None:
    picture = np.array(Image.open(FILES[name]).convert("RGB"))
    track = track_faces(picture[None], still=True)
    size = picture.shape[1], picture.shape[0]
    crop = crop_face(picture, face_place(track, 0, Profile().extra_margin, size).box)
    # Only what a smile hides is painted over, around the mouth.
    assert np.array_equal(photo_still(name).image[:MASKED_FROM], crop[:MASKED_FROM])
    assert np.array_equal(photo_still(name).image[-8:], crop[-8:])


@pytest.mark.parametrize("name", PHOTOS)
def test_scene_is_a_part_of_the_photograph_with_the_engines_box(name: str) -> None:
    whole = np.array(Image.open(FILES[name]).convert("RGB"))
    track = track_faces(whole[None], still=True)
    found = face_place(track, 0, Profile().extra_margin, (whole.shape[1], whole.shape[0])).box
    scene = photograph(name)
    x, y = found[0] - scene.box[0], found[1] - scene.box[1]
    assert found == (scene.box[0] + x, scene.box[1] + y, scene.box[2] + x, scene.box[3] + y)
    height, width = scene.picture.shape[:2]
    assert np.array_equal(scene.picture, whole[y : y + height, x : x + width])
    # The engine finds the face in this part by itself, too.
    alone = track_faces(scene.picture[None], still=True)
    assert alone.valid[0] and np.abs(alone.boxes[0] - portrait(name)[1]).max() <= 8


def test_photo_crop_can_be_jittered() -> None:
    wider = photo_still("hopper", margin=20, shift=(0.02, -0.03), grow=(1.1, 1.05))
    assert wider.half < photo_still("hopper").half
    with pytest.raises(InputError, match="outside"):
        photo_still("hopper", grow=(3.0, 1.0))
    with pytest.raises(InputError, match="mona-lisa"):
        photo_still("mona-lisa")


def test_nothing_the_model_sees_moves(stills: list[Still]) -> None:
    for still in stills:
        assert still.nose >= MASKED_FROM
        for pose in POSES:
            image = render(still, np.array(pose)).image
            assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
            assert np.array_equal(image[:MASKED_FROM], still.image[:MASKED_FROM])


def test_crop_joins_the_unmoved_picture_around_it(stills: list[Still]) -> None:
    for still in stills:
        for pose in POSES:
            image = render(still, np.array(pose)).image.astype(int)
            for edge in (np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
                assert np.abs(image[edge] - still.image[edge]).max() <= 1


def test_lines_never_cross_and_the_map_never_folds(stills: list[Still]) -> None:
    for still in stills:
        rows = np.arange(int(still.nose) - 4, SIZE, dtype=np.float32)[:, None]
        for pose in POSES:
            shape = mouth_shape(still, np.array(pose, float))
            assert (np.diff(shape.lips, axis=0) >= -1e-3).all()
            _, map_y = warp_maps(still, shape, rows)
            assert np.diff(map_y, axis=0).min() > -1e-3


def test_truth_follows_the_pose(stills: list[Still]) -> None:
    for still in stills:
        shut, spread, round_ = (render(still, np.array(pose)) for pose in (SHUT, SPREAD, ROUND))
        openings = [render(still, np.array([jaw, 0, 0, 0, 0, 0])).opening for jaw in np.linspace(0, 1, 6)]
        assert shut.opening == pytest.approx(0, abs=1e-3)
        assert (np.diff(openings) > 0).all() and openings[-1] > 15
        assert round_.width < shut.width < spread.width


def test_open_mouth_is_dark_where_shut_lips_were(stills: list[Still]) -> None:
    for still in stills:
        shut, open_ = (render(still, np.array(pose)).image.astype(int) for pose in (SHUT, OPEN))
        columns = slice(int(still.centre) - 8, int(still.centre) + 9)
        rows = slice(int(still.rest.row) - 6, int(still.rest.row) + 26)
        assert open_[rows, columns].min() < shut[rows, columns].mean() * 0.6


def test_smile_limits_rounding() -> None:
    smiling, sober = photo_still("astronaut"), photo_still("hopper")
    assert smiling.smile > 0.6 > sober.smile
    shrink = [render(s, np.array(ROUND)).width / render(s, np.array(SILENT)).width for s in (smiling, sober)]
    assert shrink[0] > shrink[1]


def test_same_seed_same_face_and_others_differ() -> None:
    faces = [draw_face(np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(faces[0].image, faces[1].image) and np.array_equal(faces[0].lips, faces[1].lips)
    assert np.abs(faces[0].image.astype(int) - faces[2].image).mean() > 10
    photo = photo_still("hopper")
    varied = [vary(photo, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(varied[0].image, varied[1].image)
    assert np.abs(varied[0].image.astype(int) - varied[2].image).mean() > 5


def test_varied_lines_stay_on_the_bent_mouth() -> None:
    """A mouth drawn in a colour of its own is found again under the bent lines."""
    rows = np.arange(SIZE)[:, None]
    line = 180 + 12 * np.sin(np.arange(SIZE) / 40)
    picture = np.repeat(((np.abs(rows - line) < 2.5) * 255).astype(np.uint8)[..., None], 3, axis=2)
    bend = Bend.random(np.random.default_rng(1), 6)
    bent, found = bend.image(picture)[..., 0].astype(float), bend.line(line.astype(np.float32))
    columns = np.arange(30, SIZE - 30)
    seen = (bent * rows).sum(axis=0)[columns] / bent.sum(axis=0)[columns]
    assert np.abs(seen - found[columns]).max() < 1
    assert np.abs(found - line).max() > 3


def test_take_that_does_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    assert np.array_equal(Take().apply(image, 1.3), image)
    still = Take.random(np.random.default_rng(0), 0.0)
    assert np.array_equal(still.apply(image, 1.3), image[:, ::-1] if still.mirror else image)


def test_take_is_smooth_and_repeatable() -> None:
    image = draw_face(np.random.default_rng(0)).image
    for seed in range(10):
        take = Take.random(np.random.default_rng(seed))
        corner = np.array([200, 220, 1])
        path = np.array([take.matrix(time / 25) @ corner for time in range(100)])
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 1.5
        assert np.ptp(path, axis=0).max() > 0.5
        first, again, later = (take.apply(image, time) for time in (0.4, 0.4, 0.8))
        assert first.dtype == np.uint8 and np.array_equal(first, again)
        assert not np.array_equal(first, later)
