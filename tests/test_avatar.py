"""Avatars: what preparing gives, and that a saved one comes back whole or is refused with the reason."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from musetalk import FrameSource, Profile, audio_features, decode_faces, inpaint, paste_back, prepare_avatar
from musetalk.avatar import check_avatar
from musetalk.avatar_file import AVATAR_JSON, inspect_avatar, load_avatar, save_avatar
from musetalk.errors import AvatarError, InputError, NoFaceError, OutputError


@pytest.fixture(scope="module")
def avatar(mesh_models, portrait_frames):
    return prepare_avatar(mesh_models, portrait_frames)


@pytest.fixture
def saved(avatar, tmp_path):
    return save_avatar(avatar, tmp_path / "hopper")


def assert_same(one, other):
    np.testing.assert_array_equal(one.track.boxes, other.track.boxes)
    np.testing.assert_array_equal(one.track.landmarks, other.track.landmarks)
    torch.testing.assert_close(one.latents, other.latents, rtol=0, atol=0)
    assert one.masks == other.masks and one.profile == other.profile
    np.testing.assert_array_equal(one.frames[:], other.frames[:])


def test_preparing_gives_one_row_per_face(avatar, portrait_frames):
    assert len(avatar.frames) == len(portrait_frames) == len(avatar.latents) == len(avatar.masks)
    assert avatar.latents.shape[1:] == (8, 32, 32) and avatar.latents.dtype == torch.float32
    assert avatar.rows.tolist() == list(range(12))


def test_frames_without_a_face_keep_the_others_in_place(mesh_models, portrait_frames, voice):
    frames = portrait_frames.copy()
    frames[3:6] = 0
    boxes = np.tile([139, 60, 232, 176], (12, 1))
    hard = Profile(fade=0)
    whole = prepare_avatar(mesh_models, portrait_frames, boxes=boxes, profile=hard)
    boxes[3:6] = 0
    avatar = prepare_avatar(mesh_models, frames, boxes=boxes, profile=hard)
    assert avatar.track.valid.tolist() == [True] * 3 + [False] * 3 + [True] * 6
    assert avatar.rows.tolist() == [0, 1, 2, -1, -1, -1, 3, 4, 5, 6, 7, 8]
    features = audio_features(mesh_models, voice, 16000)
    latents = inpaint(mesh_models, avatar, features)
    assert (latents[3:6] == 0).all() and (latents[6:] != 0).any()
    output = np.concatenate(list(paste_back(avatar, decode_faces(mesh_models, latents))))
    assert len(output) == len(features) == 12
    np.testing.assert_array_equal(output[3:6], frames[3:6])
    expected = np.concatenate(list(paste_back(whole, decode_faces(mesh_models, inpaint(mesh_models, whole, features)))))
    np.testing.assert_allclose(output[6:].astype(int), expected[6:], atol=1)


def test_no_face_at_all_is_one_error(mesh_models):
    with pytest.raises(NoFaceError, match="no face found in any of the 4 frames"):
        prepare_avatar(mesh_models, np.zeros((4, 64, 64, 3), dtype=np.uint8))


def test_given_boxes_are_used_as_they_are(tiny_models, portrait_frames):
    boxes = np.tile([139, 60, 232, 176], (12, 1))
    avatar = prepare_avatar(tiny_models, portrait_frames, boxes=boxes)
    np.testing.assert_array_equal(avatar.track.boxes, boxes)
    assert avatar.masks[0].box == (139, 60, 232, 186)  # with v1.5's margin of 10


def test_version_one_adds_no_margin(tiny_models, portrait_frames):
    boxes = np.tile([139, 60, 232, 176], (12, 1))
    avatar = prepare_avatar(tiny_models, portrait_frames, boxes=boxes, profile=Profile.for_version("v1"))
    assert avatar.masks[0].box == (139, 60, 232, 176)


def test_neck_mode_needs_the_parser(mesh_models, portrait_frames):
    with pytest.raises(InputError, match="'neck' needs the face parser"):
        prepare_avatar(mesh_models, portrait_frames[:1], profile=Profile(parsing_mode="neck"))


@pytest.mark.parametrize("mode", ["jaw", "raw", "neck"])
def test_parser_masks_differ_by_mode_but_stay_in_the_lower_face(tiny_models, portrait_frames, mode):
    avatar = prepare_avatar(tiny_models, portrait_frames[:1], profile=Profile(parsing_mode=mode))
    x0, y0, x1, y1 = avatar.masks[0].region
    box = avatar.masks[0].box
    assert box[0] <= x0 < x1 <= box[2] and y1 <= box[3]
    assert y0 > box[1] + 0.4 * (box[3] - box[1])


def test_progress_can_stop_the_work(mesh_models, portrait_frames):
    def stop(done, total):
        if done > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_avatar(mesh_models, portrait_frames, progress=stop)


def test_array_footage_is_saved_without_loss(avatar, saved):
    assert_same(load_avatar(saved), avatar)
    assert not list(saved.parent.glob(".*"))


@pytest.mark.parametrize("copy_footage", [False, True])
def test_file_footage_is_referenced_or_copied(mesh_models, clip, tmp_path, copy_footage):
    footage = tmp_path / "talk.mp4"
    shutil.copy(clip, footage)
    avatar = prepare_avatar(mesh_models, FrameSource.open(footage))
    folder = save_avatar(avatar, tmp_path / "hopper", copy_footage=copy_footage)
    assert_same(load_avatar(folder), avatar)
    footage.unlink()
    if copy_footage:
        assert_same(load_avatar(folder.rename(tmp_path / "moved")), prepare_avatar(mesh_models, FrameSource.open(clip)))
    else:
        with pytest.raises(AvatarError, match="cannot open its footage"):
            load_avatar(folder)


def test_changed_footage_makes_the_avatar_stale(mesh_models, clip, tmp_path):
    footage = tmp_path / "talk.mp4"
    shutil.copy(clip, footage)
    folder = save_avatar(prepare_avatar(mesh_models, FrameSource.open(footage)), tmp_path / "hopper")
    with footage.open("ab") as file:
        file.write(b"more")
    with pytest.raises(AvatarError, match=r"is stale: its footage .* has changed"):
        load_avatar(folder)


def test_a_flipped_byte_is_noticed(saved):
    path = saved / "avatar.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(AvatarError, match="damaged"):
        load_avatar(saved)
    assert "damaged" in inspect_avatar(saved)["status"]


def test_a_truncated_file_is_noticed(saved):
    path = saved / "avatar.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AvatarError, match="damaged"):
        load_avatar(saved)


def change(**values):
    return lambda description: description.update(values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change(format_version=99), "format version 99"),
        (change(format="other"), "does not describe"),
        (change(profile={"extra_margin": "wide"}), "damaged"),
        (change(profile={"unknown": 1}), "damaged"),
        (change(profile={"extra_margin": 3}), "content hash"),
        (change(footage={"path": 3}), "damaged"),
        (lambda description: description.pop("faces"), "lacks faces"),
    ],
)
def test_edited_descriptions_are_refused(saved, edit, message):
    path = saved / AVATAR_JSON
    description = json.loads(path.read_text())
    edit(description)
    path.write_text(json.dumps(description))
    with pytest.raises(AvatarError, match=message):
        load_avatar(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_garbage_descriptions_are_refused(saved, content):
    (saved / AVATAR_JSON).write_bytes(content)
    with pytest.raises(AvatarError):
        load_avatar(saved)


def test_a_folder_that_is_no_avatar_is_refused(tmp_path):
    with pytest.raises(AvatarError, match="is not an avatar"):
        load_avatar(tmp_path)


def test_existing_avatars_are_kept_unless_told(avatar, saved):
    before = (saved / AVATAR_JSON).read_bytes()
    with pytest.raises(OutputError, match="exists"):
        save_avatar(avatar, saved)
    assert (saved / AVATAR_JSON).read_bytes() == before
    save_avatar(avatar, saved, overwrite=True)
    assert_same(load_avatar(saved), avatar)
    assert sorted(path.name for path in saved.parent.iterdir()) == [saved.name]


def test_overwrite_never_replaces_another_folder(avatar, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match="is not an avatar"):
        save_avatar(avatar, tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_a_failed_save_leaves_nothing(avatar, tmp_path):
    broken = replace(avatar, latents=avatar.latents.to_sparse())  # safetensors cannot hold it
    with pytest.raises((OutputError, ValueError, RuntimeError)):
        save_avatar(broken, tmp_path / "hopper")
    assert list(tmp_path.iterdir()) == []


def test_avatars_of_other_models_are_refused(avatar, mesh_models):
    check_avatar(mesh_models, avatar)
    with pytest.raises(AvatarError, match=r"prepared for MuseTalk v15, the models are v1"):
        check_avatar(replace(mesh_models, version="v1"), avatar)
    foreign = replace(avatar, latents=torch.randn_like(avatar.latents))
    with pytest.raises(AvatarError, match="not those of this VAE"):
        check_avatar(mesh_models, foreign)


def test_content_hash_follows_settings_and_boxes(avatar, mesh_models, portrait_frames):
    again = prepare_avatar(mesh_models, portrait_frames)
    assert again.content_hash() == avatar.content_hash()
    softer = prepare_avatar(mesh_models, portrait_frames, profile=Profile(blur_ratio=0.1))
    shifted = prepare_avatar(mesh_models, portrait_frames, profile=Profile(bbox_shift=4))
    assert len({avatar.content_hash(), softer.content_hash(), shifted.content_hash()}) == 3
