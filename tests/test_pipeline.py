"""The whole job: every frame in its place, pieces equal the whole, nothing left behind when it stops."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from musetalk import FrameSource, Profile, audio_features, decode_faces, inpaint, lipsync, paste_back, prepare_avatar
from musetalk.audio.features import open_windows
from musetalk.audio.source import AudioSource
from musetalk.avatar_file import load_avatar, save_avatar
from musetalk.errors import InputError, NoFaceError, OutputError
from musetalk.face.track import PassThrough
from musetalk.preparation import Preparer, SpooledMaterial
from musetalk.render import MaterialSource, Voice, render
from musetalk.schedule import Schedule


def sound(seconds: float) -> AudioSource:
    time = np.arange(round(seconds * 16000)) / 16000
    return AudioSource.from_array((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32), 16000)


def facts(path) -> tuple[int, Fraction, float, float]:
    """Decoded frames, rate, and the seconds of picture and of sound that a player shows."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        rate, heard = video.average_rate, float(audio.duration * audio.time_base)
        count = sum(1 for _ in container.decode(video))
    return count, rate, float(count / rate), heard


def rendered(models, avatar, material: MaterialSource, source: AudioSource, length: int, **options) -> np.ndarray:
    frames = avatar.frames
    windows = open_windows(models, source, frames.fps)
    schedule = Schedule(None, frames.fps, heard=len(windows), length=length)
    pieces: list[np.ndarray] = []
    voice = Voice(avatar.track, material, windows, schedule)
    render(models, frames, [voice], length, lambda frames: pieces.append(frames.copy()), **options)
    return np.concatenate(pieces)


def spooled(models, avatar, *, keep: bool) -> SpooledMaterial:
    return SpooledMaterial(Preparer(models, avatar.track, avatar.profile, avatar.frames.size), keep=keep)


@pytest.fixture(scope="module")
def avatar(mesh_models, portrait_frames):
    return prepare_avatar(mesh_models, portrait_frames)


@pytest.fixture(scope="module")
def stage_by_stage(mesh_models, avatar):
    """Output frames of the separate stages for 1.2 s of sound: 30 frames of 12, ping-pong."""
    samples = np.concatenate(list(sound(1.2).blocks()), axis=1)
    latents = inpaint(mesh_models, avatar, audio_features(mesh_models, samples, 16000))
    return np.concatenate(list(paste_back(avatar, decode_faces(mesh_models, latents))))


@pytest.mark.parametrize("keep", [True, False])
def test_streaming_equals_the_stages_one_by_one(mesh_models, avatar, stage_by_stage, keep):
    frames = rendered(mesh_models, avatar, spooled(mesh_models, avatar, keep=keep), sound(1.2), 30)
    np.testing.assert_array_equal(frames, stage_by_stage)


def test_batch_of_one_equals_batch_of_eight(mesh_models, avatar, stage_by_stage):
    frames = rendered(mesh_models, avatar, avatar, sound(1.2), 30, batch_size=1)
    assert np.abs(frames.astype(int) - stage_by_stage).max() <= 1


def test_mouths_move_and_the_rest_stays(avatar, stage_by_stage, portrait_frames):
    sources = [*range(12), *range(11, -1, -1), *range(6)]
    for output, source in zip(stage_by_stage, sources, strict=True):
        x0, y0, x1, y1 = avatar.mask_of(source).region
        outside = np.ones(output.shape[:2], dtype=bool)
        outside[y0:y1, x0:x1] = avatar.mask_of(source).alpha == 0
        np.testing.assert_array_equal(output[outside], portrait_frames[source][outside])
        assert (output != portrait_frames[source]).any()


def test_file_in_file_out(mesh_models, clip, speech, tmp_path):
    report = lipsync(mesh_models, clip, speech, tmp_path / "out.mp4")
    count, rate, seen, heard = facts(report.output)
    assert count == report.frames == 80 and rate == 25 and (report.width, report.height) == (384, 320)
    assert abs(seen - heard) <= 1 / 25
    (speaker,) = report.speakers
    assert speaker.passed == () and speaker.shift_range is not None and speaker.person is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4"]


@pytest.mark.parametrize(
    "fps", [Fraction(24000, 1001), Fraction(24), Fraction(30000, 1001), Fraction(50), Fraction(60)]
)
def test_rates_are_exact_and_sound_stays_in_step(mesh_models, portrait_frames, tmp_path, fps):
    source = FrameSource.from_array(portrait_frames, fps=fps)
    report = lipsync(mesh_models, source, sound(0.7), tmp_path / "out.mp4", preset="ultrafast")
    count, rate, seen, heard = facts(report.output)
    assert rate == fps and count == report.frames == int(Fraction(7, 10) * fps)
    assert abs(seen - heard) <= 1 / fps + Fraction(1, 1000)


def test_own_sound_drives_the_video(mesh_models, clip, tmp_path):
    report = lipsync(mesh_models, clip, None, tmp_path / "out.mp4")
    assert report.frames == 12


def test_images_and_folders_of_images(mesh_models, portrait_frames, tmp_path):
    Image.fromarray(portrait_frames[0]).save(tmp_path / "face.png")
    assert lipsync(mesh_models, tmp_path / "face.png", sound(0.4), tmp_path / "still.mp4").frames == 10
    (tmp_path / "frames").mkdir()
    for i, frame in enumerate(portrait_frames[:3]):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{i:08d}.png")
    assert lipsync(mesh_models, tmp_path / "frames", sound(0.4), tmp_path / "folder.mp4").frames == 10


@pytest.mark.parametrize(("loop", "frames"), [("ping-pong", 20), ("repeat", 20), ("hold", 20), ("cut", 12)])
def test_loops(mesh_models, portrait_frames, tmp_path, loop, frames):
    report = lipsync(mesh_models, FrameSource.from_array(portrait_frames), sound(0.8), tmp_path / "o.mp4", loop=loop)
    count, rate, seen, heard = facts(report.output)
    assert count == report.frames == frames
    assert abs(seen - heard) <= 1 / rate


def test_an_avatar_gives_the_same_video_as_its_footage(mesh_models, clip, tmp_path):
    prepared = prepare_avatar(mesh_models, FrameSource.open(clip))
    folder = save_avatar(prepared, tmp_path / "avatar")
    direct = lipsync(mesh_models, clip, sound(0.8), tmp_path / "direct.mp4")
    driven = lipsync(mesh_models, load_avatar(folder), sound(0.8), tmp_path / "driven.mp4")
    np.testing.assert_array_equal(FrameSource.open(direct.output)[:], FrameSource.open(driven.output)[:])


def test_faceless_frames_pass_through_in_place(mesh_models, portrait, tmp_path):
    frames = np.stack([portrait] * 30)
    frames[10:20] = np.random.default_rng(0).integers(0, 60, frames[10:20].shape, dtype=np.uint8)
    report = lipsync(mesh_models, FrameSource.from_array(frames), sound(1.2), tmp_path / "out.mp4")
    assert report.frames == 30 and report.speakers[0].passed == (PassThrough(10, 19, "no face"),)
    prepared = prepare_avatar(mesh_models, frames)
    output = rendered(mesh_models, prepared, spooled(mesh_models, prepared, keep=False), sound(1.2), 30)
    np.testing.assert_array_equal(output[10:20], frames[10:20])
    for i in (9, 20, 29):
        assert (output[i] != frames[i]).any()


def test_no_face_anywhere_stops_before_the_unet(mesh_models, tmp_path):
    calls = []
    hook = mesh_models.unet.register_forward_hook(lambda *_: calls.append(1))
    blank = np.full((5, 120, 160, 3), 40, dtype=np.uint8)
    with pytest.raises(NoFaceError, match="no face found"):
        lipsync(mesh_models, FrameSource.from_array(blank), sound(0.2), tmp_path / "out.mp4")
    hook.remove()
    assert calls == [] and list(tmp_path.iterdir()) == []


def test_one_unet_pass_per_batch(mesh_models, avatar, tmp_path):
    calls = []
    hook = mesh_models.unet.register_forward_hook(lambda _, inputs, out: calls.append(len(out)))
    lipsync(mesh_models, avatar, sound(0.8), tmp_path / "out.mp4", batch_size=8)
    hook.remove()
    assert calls == [8, 8, 4]


@pytest.mark.parametrize("stage", ["audio", "faces", "frames"])
def test_an_interrupt_in_any_stage_leaves_nothing(mesh_models, clip, tmp_path, stage):
    seen = []

    def stop(name, done, total):
        seen.append((name, done))
        if name == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lipsync(mesh_models, clip, sound(2.0), tmp_path / "out.mp4", batch_size=4, progress=stop)
    assert list(tmp_path.iterdir()) == []
    if stage == "frames":
        assert [done for name, done in seen if name == "frames"] == [4]


def test_an_error_while_reading_surfaces_with_its_cause(mesh_models, portrait_frames, tmp_path):
    class Failing(type(FrameSource.from_array(portrait_frames))):
        def read(self, indices):
            if 7 in indices and len(indices) < 8:
                raise InputError("frame 7 cannot be decoded")
            return super().read(indices)

    source = Failing(portrait_frames, Fraction(25))
    with pytest.raises(InputError, match="frame 7 cannot be decoded"):
        lipsync(mesh_models, source, sound(0.4), tmp_path / "out.mp4", batch_size=4)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_network_surfaces(mesh_models, portrait_frames, tmp_path):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory left")

    hook = mesh_models.unet.register_forward_hook(fail)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="no memory left"):
            lipsync(mesh_models, FrameSource.from_array(portrait_frames), sound(0.4), tmp_path / "out.mp4")
    finally:
        hook.remove()
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_kept_unless_told(mesh_models, clip, tmp_path):
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        lipsync(mesh_models, clip, sound(0.2), output)
    assert output.read_bytes() == b"precious"
    assert lipsync(mesh_models, clip, sound(0.2), output, overwrite=True).frames == 5


def test_an_input_is_never_overwritten(mesh_models, clip, tmp_path):
    copy = tmp_path / "talk.mp4"
    copy.write_bytes(clip.read_bytes())
    with pytest.raises(InputError, match="also an input"):
        lipsync(mesh_models, copy, sound(0.2), copy, overwrite=True)
    assert copy.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("name", ["mask", "occluder"])
def test_a_matte_is_never_overwritten(mesh_models, clip, tmp_path, name):
    matte = tmp_path / "out.mp4"
    matte.write_bytes(clip.read_bytes())
    with pytest.raises(InputError, match="also an input"):
        lipsync(mesh_models, clip, None, matte, overwrite=True, **{name: matte})
    assert matte.read_bytes() == clip.read_bytes()


def test_a_selection_does_not_fit_an_avatar(mesh_models, avatar, tmp_path):
    with pytest.raises(InputError, match="select belong"):
        lipsync(mesh_models, avatar, sound(0.2), tmp_path / "out.mp4", select=1)


def test_options_of_the_preparation_do_not_fit_an_avatar(mesh_models, avatar, tmp_path):
    with pytest.raises(InputError, match="profile"):
        lipsync(mesh_models, avatar, sound(0.2), tmp_path / "out.mp4", profile=Profile())
