"""Material of frames: mask sources, mattes and upright crops, the same whether prepared ahead or on the way."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from musetalk import Profile
from musetalk.avatar import Avatar
from musetalk.avatar_file import load_avatar, save_avatar
from musetalk.blend import paste_face
from musetalk.compose import paste_back
from musetalk.errors import InputError
from musetalk.face.given import GivenBoxes
from musetalk.face.mask_maker import check_mask_source
from musetalk.face.mattes import Mattes
from musetalk.face.tracking import track_faces
from musetalk.preparation import Preparer, SpooledMaterial
from musetalk.video.frames import FrameSource

SIZE = (384, 320)
FACES = np.random.default_rng(5).integers(0, 256, (12, 256, 256, 3), dtype=np.uint8)
# Nothing passes through, so that every frame tests the paste.
STEADFAST = Profile(max_yaw=180, max_pitch=180, max_covered=1.0, fade=0.0)


@pytest.fixture(scope="module")
def track(portrait_frames):
    return track_faces(portrait_frames, profile=STEADFAST)


@pytest.fixture(scope="module")
def tilted_frames(portrait_frames):
    """The moving face with its head rolled, 15 to 26 degrees."""
    turned = []
    for i, frame in enumerate(portrait_frames[:4]):
        matrix = cv2.getRotationMatrix2D((185 + 2 * i, 120), -15 - 4 * i, 1)
        turned.append(cv2.warpAffine(frame, matrix, SIZE, flags=cv2.INTER_CUBIC))
    return np.stack(turned)


@pytest.fixture(scope="module")
def tilted_track(tilted_frames):
    return track_faces(tilted_frames, profile=replace(STEADFAST, upright=True))


def full(mask):
    alpha = np.zeros(SIZE[::-1], dtype=np.uint8)
    x0, y0, x1, y1 = mask.region
    alpha[y0:y1, x0:x1] = mask.alpha
    return alpha


def masks_of(models, track, frames, profile=STEADFAST, **mattes):
    indices = list(range(len(frames)))
    return [item.mask for item in Preparer(models, track, profile, SIZE, **mattes).prepare(indices, list(frames))]


def bar(count, width=14):
    """Pictures of a bar that moves from left to right over the mouth, and its matte."""
    matte = np.zeros((count, *SIZE[::-1]), dtype=np.uint8)
    for i in range(count):
        matte[i, 120:210, 130 + 10 * i : 130 + 10 * i + width] = 255
    return matte


@pytest.mark.parametrize("upright", [False, True])
def test_a_bar_in_front_stays_pixel_for_pixel(mesh_models, portrait_frames, upright):
    matte, profile = bar(12), replace(STEADFAST, upright=upright)
    frames = portrait_frames.copy()
    frames[matte > 0] = [20, 200, 90]
    # Found without the bar: what is tested is the paste, not how well the mesh looks past it.
    track = track_faces(portrait_frames, profile=profile)
    occluder = Mattes.from_array(matte)
    masks, bare = (masks_of(mesh_models, track, frames, profile, occluder=each) for each in (occluder, None))
    crossed = 0
    for frame, mask, without, face, hidden in zip(frames, masks, bare, FACES, matte, strict=True):
        blended = frame.copy()
        paste_face(blended, face, mask)
        np.testing.assert_array_equal(blended[hidden == 255], frame[hidden == 255])
        np.testing.assert_array_equal(full(mask)[hidden == 0], full(without)[hidden == 0])
        assert (blended != frame).any()
        crossed += bool((full(without)[hidden == 255] > 200).any())
    assert crossed >= 6


@pytest.mark.parametrize("source", ["mesh", "hull", "mask", "parser"])
def test_every_source_keeps_to_the_lower_face(tiny_models, track, portrait_frames, source):
    frames, white = portrait_frames[:2], Mattes.from_array(np.full((8, 8), 255, dtype=np.uint8))
    profile = replace(STEADFAST, mask_source=source)
    for mask in masks_of(tiny_models, track, frames, profile, mask=white):
        x0, y0, x1, y1 = mask.box
        alpha = full(mask)
        area = (alpha > 127).sum() / ((x1 - x0) * (y1 - y0))
        if source != "parser":  # its weights are random here: it says anything
            assert 0.2 < area < 0.55
            chin, lip = alpha[y1 - 18, (x0 + x1) // 2], alpha[y0 + round(0.75 * (y1 - y0)), (x0 + x1) // 2]
            assert chin > 200 and lip == 255
        assert not alpha[: (y0 + y1) // 2 - 12].any()


def test_mesh_and_hull_are_nearly_the_same_mask(mesh_models, track, portrait_frames):
    mesh, hull = (
        full(masks_of(mesh_models, track, portrait_frames[:1], replace(STEADFAST, mask_source=source))[0]) > 127
        for source in ("mesh", "hull")
    )
    assert (mesh & hull).sum() > 0.9 * (mesh | hull).sum()


def test_a_given_mask_is_the_shape_of_the_paste(mesh_models, track, portrait_frames):
    matte = np.zeros(SIZE[::-1], dtype=np.uint8)
    x0, y0, x1, y1 = (int(v) for v in track.boxes[0])
    middle = (x0 + x1) // 2
    matte[:, :middle] = 255
    profile, given = replace(STEADFAST, mask_source="mask"), Mattes.from_array(matte)
    alpha = full(masks_of(mesh_models, track, portrait_frames[:1], profile, mask=given)[0])
    row = alpha[(y0 + 3 * y1) // 4]
    assert row[x0 + 20] == 255 and row[middle - 2] not in (0, 255) and not row[middle + 20 :].any()
    # Beside another source it cuts as sharply as it was drawn.
    limited = full(masks_of(mesh_models, track, portrait_frames[:1], mask=given)[0])
    plain = full(masks_of(mesh_models, track, portrait_frames[:1])[0])
    np.testing.assert_array_equal(limited[:, :middle], plain[:, :middle])
    assert not limited[:, middle:].any() and plain[:, middle:].any()


def test_weights_fade_the_paste(mesh_models, track, portrait_frames):
    weights = np.array([1.0, 0.25, 0.0] + [1.0] * 9, np.float32)
    plain = masks_of(mesh_models, track, portrait_frames[:3])
    faded = masks_of(mesh_models, replace(track, weights=weights), portrait_frames[:3])
    assert faded[0] == plain[0]
    np.testing.assert_array_equal(full(faded[1]), np.rint(full(plain[1]) * np.float32(0.25)))
    assert faded[2].region == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"mask_source": "parser"}, {}, "'parser' needs the face parser weights"),
        ({"mask_source": "mask"}, {}, "'mask' needs a mask"),
        ({"parsing_mode": "neck"}, {}, "'neck' needs the face parser"),
        ({"mask_source": "hull", "parsing_mode": "neck"}, {"parser": True}, "'neck' needs the face parser"),
    ],
)
def test_what_cannot_be_served_is_refused(changes, given, message):
    with pytest.raises(InputError, match=message):
        check_mask_source(Profile(**changes), **{"parser": False, "mask": False, **given})


def test_auto_is_the_parser_where_there_is_one():
    assert check_mask_source(Profile(), parser=True, mask=False) == "parser"
    assert check_mask_source(Profile(), parser=False, mask=True) == "mesh"


def test_hull_needs_landmarks(mesh_models, track, portrait_frames):
    with pytest.raises(InputError, match="'hull' needs landmarks"):
        masks_of(
            mesh_models, replace(track, landmarks=None), portrait_frames[:1], replace(STEADFAST, mask_source="hull")
        )


def test_latents_need_no_mask(mesh_models, track, portrait_frames):
    profile = replace(STEADFAST, mask_source="mask")
    latents = Preparer(mesh_models, track, profile, SIZE).latents_of([0], [portrait_frames[0]])
    assert torch.equal(latents, Preparer(mesh_models, track, STEADFAST, SIZE).latents_of([0], [portrait_frames[0]]))


@pytest.fixture(scope="module")
def mattes():
    soft = cv2.GaussianBlur(bar(4)[2], (0, 0), 3)
    return {"mask": Mattes.from_array(255 - soft), "occluder": Mattes.from_array(bar(4))}


@pytest.fixture(scope="module")
def items(mesh_models, tilted_frames, tilted_track, mattes):
    preparer = Preparer(mesh_models, tilted_track, TestUpright.profile, SIZE, **mattes)
    return preparer.prepare(range(4), list(tilted_frames))


class TestUpright:
    """Tilted heads, with everything else on as well."""

    profile = replace(STEADFAST, upright=True, color_match=True)

    def test_masks_tilt_with_the_head(self, mesh_models, tilted_frames, tilted_track):
        for i, mask in enumerate(masks_of(mesh_models, tilted_track, tilted_frames, self.profile)):
            assert mask.turn is not None
            y, x = np.nonzero(full(mask) > 127)
            # The lower edge of the face runs along the roll, and lies on the side the chin has gone to.
            spread = np.linalg.eigh(np.cov(x, y))[1][:, -1]
            slope = np.degrees(np.arctan(spread[1] / spread[0]))
            assert slope == pytest.approx(np.degrees(mask.turn[2]), abs=12)
            assert np.degrees(mask.turn[2]) == pytest.approx(15 + 4 * i, abs=6)
            assert x.mean() < mask.turn[0] and y.mean() > mask.turn[1]

    @pytest.mark.parametrize("source", ["hull", "mask", "parser"])
    def test_other_sources_tilt_alike(self, tiny_models, tilted_frames, tilted_track, source):
        profile, white = replace(self.profile, mask_source=source), Mattes.from_array(np.full((8, 8), 1.0))
        mask = masks_of(tiny_models, tilted_track, tilted_frames[:1], profile, mask=white)[0]
        if source != "parser":
            y, x = np.nonzero(full(mask) > 127)
            assert x.mean() < mask.turn[0] and y.mean() > mask.turn[1]
        assert mask.turn is not None

    def test_a_mesh_is_run_in_the_upright_picture_where_none_is_known(self, mesh_models, tilted_frames, tilted_track):
        known, run = (
            full(masks_of(mesh_models, replace(tilted_track, mesh=mesh), tilted_frames[:1], self.profile)[0]) > 127
            for mesh in (tilted_track.mesh, None)
        )
        assert (known & run).sum() > 0.9 * (known | run).sum()

    def test_one_by_one_equals_all_at_once(self, mesh_models, tilted_frames, tilted_track, mattes, items):
        preparer = Preparer(mesh_models, tilted_track, self.profile, SIZE, **mattes)
        for i, item in enumerate(items):
            (alone,) = preparer.prepare([i], [tilted_frames[i]])
            assert alone.mask == item.mask
            torch.testing.assert_close(alone.latents, item.latents, atol=1e-5, rtol=0)

    def test_spooled_and_saved_equal_the_fresh(self, mesh_models, tilted_frames, tilted_track, mattes, items, tmp_path):
        with SpooledMaterial(Preparer(mesh_models, tilted_track, self.profile, SIZE, **mattes), keep=True) as spool:
            first, again = (spool.material([2, 0], tilted_frames[[2, 0]]) for _ in range(2))
            assert [item.mask for item in first] == [item.mask for item in again] == [items[2].mask, items[0].mask]
        latents = torch.stack([item.latents for item in items])
        masks = tuple(item.mask for item in items)
        avatar = Avatar(FrameSource.from_array(tilted_frames), tilted_track, self.profile, latents, masks)
        loaded = load_avatar(save_avatar(avatar, tmp_path / "avatar"))
        assert loaded.masks == masks
        before, after = (np.concatenate(list(paste_back(each, FACES[:4]))) for each in (avatar, loaded))
        np.testing.assert_array_equal(before, after)
        np.testing.assert_array_equal(before[bar(4) == 255], tilted_frames[bar(4) == 255])
        assert (before != tilted_frames).any(axis=(1, 2, 3)).all()

    def test_colour_match_is_off_under_parity(self, mesh_models, track, portrait_frames):
        profile = replace(STEADFAST, color_match=True, parity=True)
        assert not masks_of(mesh_models, track, portrait_frames[:1], profile)[0].color_match


@pytest.mark.parametrize("expand", [1.0, 1.02])
def test_a_blending_crop_smaller_than_an_odd_box(mesh_models, portrait_frames, expand):
    """The crop is rounded down, and may then be a pixel smaller than the box."""
    profile = STEADFAST.changed(expand=expand)
    track = track_faces(portrait_frames[:1], source=GivenBoxes([139, 60, 230, 175]), profile=profile)
    occluder = Mattes.from_array(np.zeros((SIZE[1], SIZE[0]), np.uint8))
    (item,) = Preparer(mesh_models, track, profile, SIZE, occluder=occluder).prepare([0], portrait_frames[:1])
    x0, y0, x1, y1 = item.mask.region
    assert 139 <= x0 < x1 <= 230 and 60 <= y0 < y1 <= 185 and item.mask.alpha.shape == (y1 - y0, x1 - x0)
