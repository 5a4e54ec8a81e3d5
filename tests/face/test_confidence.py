from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from musetalk.face.confidence import Verdict, judge
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.track import PassThrough
from musetalk.face.tracking import track_faces
from musetalk.profile import Profile

FPS = Fraction(25)
HARD = Profile(fade=0)


def verdict(
    frames: int = 40,
    *,
    unseen: tuple[int, ...] | range = (),
    score: object = 1.0,
    yaw: object = 0.0,
    pitch: object = 0.0,
    covered: object = None,
    profile: Profile = HARD,
    fps: Fraction | None = FPS,
) -> Verdict:
    """What is judged of a clip; a value is one for all frames or one per frame."""
    seen = np.ones(frames, bool)
    seen[list(unseen)] = False
    pose = np.zeros((frames, 3), np.float32)
    pose[:, 0], pose[:, 1] = yaw, pitch
    scores = np.full(frames, score, np.float32) if np.isscalar(score) else np.asarray(score, np.float32)
    hidden = None if covered is None else np.broadcast_to(np.asarray(covered, np.float32), frames)
    return judge(seen, np.where(seen, scores, 0).astype(np.float32), pose, hidden, profile, fps)


def during(first: int, stop: int, value: float, otherwise: float = 0, frames: int = 40) -> np.ndarray:
    values = np.full(frames, otherwise, np.float32)
    values[first:stop] = value
    return values


def test_a_good_face_is_redrawn() -> None:
    good = verdict()
    assert good.valid.all() and good.passed == ()
    assert good.confidence.dtype == good.weights.dtype == np.float32
    assert (good.confidence == 1).all() and (good.weights == 1).all()


@pytest.mark.parametrize(
    ("what", "value", "reason"),
    [
        ("yaw", 71.2, "head turned away (yaw 71 degrees)"),
        ("yaw", -71.2, "head turned away (yaw 71 degrees)"),
        ("pitch", 55, "head tilted up (pitch 55 degrees)"),
        ("pitch", -55, "head tilted down (pitch -55 degrees)"),
        ("covered", 0.82, "mouth covered (82%)"),
    ],
)
def test_reasons(what: str, value: float, reason: str) -> None:
    passed = verdict(**{what: during(10, 20, value)}).passed
    assert passed == (PassThrough(10, 19, reason),)


def test_a_face_hardly_visible() -> None:
    assert verdict(score=during(10, 20, 0.07, otherwise=1)).passed == (
        PassThrough(10, 19, "face hardly visible (score 0.07)"),
    )
    assert verdict(score=0.4).valid.all()


@pytest.mark.parametrize(("what", "limit"), [("yaw", 65), ("pitch", 50), ("covered", 0.6)])
def test_confidence_falls_smoothly_and_crosses_a_half_on_the_limit(what: str, limit: float) -> None:
    values = np.linspace(0.7, 1.3, 61) * limit
    values[30] = limit
    judged = verdict(61, **{what: values})
    falling = judged.confidence
    assert (np.diff(falling) <= 0).all() and np.abs(np.diff(falling)).max() < 0.06
    assert falling[0] == 1 and falling[30] == pytest.approx(0.5) and falling[-1] == 0
    np.testing.assert_array_equal(judged.valid, values <= limit)


def test_limits_are_the_profiles() -> None:
    profile = Profile(max_yaw=30, max_pitch=180, max_covered=1, fade=0)
    assert not verdict(yaw=31, profile=profile).valid.any()
    assert verdict(yaw=29, pitch=90, covered=1.0, profile=profile).valid.all()
    assert not verdict(covered=0.01, profile=Profile(max_covered=0)).valid.any()


def test_the_worst_thing_about_a_face_decides() -> None:
    yaw, covered = during(10, 20, 70), during(15, 30, 1)
    judged = verdict(yaw=yaw, covered=covered, unseen=range(25, 32))
    assert judged.passed == (
        PassThrough(10, 14, "head turned away (yaw 70 degrees)"),
        PassThrough(15, 24, "mouth covered (100%)"),
        PassThrough(25, 31, "no face"),
    )
    np.testing.assert_array_equal(judged.confidence[25:32], 0)


@pytest.mark.parametrize(("fps", "frames"), [(Fraction(25), 3), (Fraction(60), 7), (Fraction(5), 1)])
def test_a_change_must_last(fps: Fraction, frames: int) -> None:
    """0.12 s, both ways."""
    assert verdict(yaw=during(10, 10 + frames - 1, 80), fps=fps).valid.all()
    assert verdict(yaw=during(10, 10 + frames, 80), fps=fps).valid.sum() == 40 - frames
    assert not verdict(yaw=during(10, 10 + frames - 1, 0, otherwise=80), fps=fps).valid.any()
    assert verdict(yaw=during(10, 10 + frames, 0, otherwise=80), fps=fps).valid.sum() == frames


def test_hovering_at_a_limit_does_not_flicker() -> None:
    hovering = np.where(np.arange(40) % 2, 66.0, 64.0)
    hovering[:10], hovering[30:] = 20, 80
    assert verdict(yaw=hovering).passed == (PassThrough(29, 39, "head turned away (yaw 80 degrees)"),)
    hovering[:10], hovering[30:] = 80, 20
    assert verdict(yaw=hovering).passed == (PassThrough(0, 29, "head turned away (yaw 80 degrees)"),)
    assert verdict(yaw=np.where(np.arange(40) % 2, 80, 0)).passed == (), "undecided from end to end: redrawn"


def test_reasons_do_not_flicker_either() -> None:
    wavering = np.where(np.arange(40) % 2, 90, 70)
    assert verdict(yaw=wavering, covered=np.where(np.arange(40) % 2, 0.65, 1)).passed[0].first == 0
    assert len(verdict(yaw=wavering, covered=np.where(np.arange(40) % 2, 0.65, 1)).passed) == 1


def test_a_frame_without_a_face_passes_at_once() -> None:
    judged = verdict(unseen=[5])
    assert judged.passed == (PassThrough(5, 5, "no face"),)
    assert judged.valid.sum() == 39


def test_pictures_of_their_own_are_judged_alone() -> None:
    judged = verdict(4, yaw=[0, 80, 0, 80], profile=Profile(), fps=None)
    assert judged.valid.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(judged.weights, [1, 0, 1, 0])


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize(("yaw", "usable"), [(10, True), (80, False)])
def test_short_clips(frames: int, yaw: float, usable: bool) -> None:
    judged = verdict(frames, yaw=yaw, profile=Profile())
    assert (judged.valid == usable).all() and (judged.weights == usable).all()


def test_the_fade_lies_inside_the_usable_frames_and_not_at_the_ends_of_the_clip() -> None:
    weights = verdict(unseen=range(15, 20), profile=Profile()).weights
    half_way = np.sin(np.pi / 8 * np.arange(4)) ** 2  # 0.12 s at 25 fps: three frames below 1
    np.testing.assert_allclose(weights[19:23], half_way, atol=1e-6)
    np.testing.assert_allclose(weights[15:11:-1], half_way, atol=1e-6)
    assert (weights[:12] == 1).all() and (weights[23:] == 1).all() and (weights[15:20] == 0).all()


def test_a_short_usable_run_rises_and_falls_without_a_pop() -> None:
    for frames in range(1, 7):
        gone = [i for i in range(40) if not 10 <= i < 10 + frames]
        weights = verdict(unseen=gone, profile=Profile()).weights[9 : 11 + frames]
        np.testing.assert_allclose(weights, weights[::-1], atol=1e-6)
        assert np.diff(weights).max() < 0.4 and weights.max() <= 1
    assert weights.max() > 0.8


def test_fade_is_in_seconds_and_may_be_off() -> None:
    soft = verdict(unseen=[20], profile=Profile(fade=0.25), fps=Fraction(24)).weights
    assert ((soft > 0) & (soft < 1)).sum() == 12
    hard = verdict(unseen=[20], profile=HARD).weights
    assert set(hard.tolist()) == {0, 1}


def test_under_parity_every_face_seen_is_redrawn() -> None:
    judged = verdict(unseen=[3, 4], score=0.01, yaw=80, covered=1.0, profile=Profile(parity=True))
    assert judged.passed == (PassThrough(3, 4, "no face"),)
    np.testing.assert_array_equal(judged.valid, judged.weights == 1)
    assert judged.valid.sum() == 38


def test_nobody_is_blamed_for_what_is_not_known() -> None:
    seen, scores = np.ones(5, bool), np.ones(5, np.float32)
    assert judge(seen, scores, None, None, Profile(), FPS).valid.all()
    unknown = np.full((5, 3), np.nan, np.float32)
    judged = judge(seen, scores, unknown, np.full(5, np.nan, np.float32), Profile(), FPS)
    assert judged.valid.all() and (judged.confidence == 1).all()


def test_a_clip_without_faces() -> None:
    judged = verdict(5, unseen=range(5), profile=Profile())
    assert judged.passed == (PassThrough(0, 4, "no face"),)
    assert not judged.valid.any() and not judged.weights.any()


@pytest.mark.parametrize("name", ["hopper", "astronaut"])
@pytest.mark.parametrize("angle", [-60, -30, 0, 30, 60])
def test_portraits_are_usable_at_any_roll(
    request: pytest.FixtureRequest, mesh: FaceMesh, name: str, angle: float
) -> None:
    picture = request.getfixturevalue(name)
    centre = {"hopper": (263, 220), "astronaut": (225, 118)}[name]
    turn = cv2.getRotationMatrix2D(centre, angle, 1)
    rolled = cv2.warpAffine(picture, turn, (512, 600), borderMode=cv2.BORDER_REPLICATE)
    track = track_faces(rolled[None], source=MeshLandmarks(mesh))
    assert track.valid.all() and track.confidence[0] == 1


def test_a_head_on_its_side_needs_an_upright_crop(mesh: FaceMesh, hopper: np.ndarray) -> None:
    lying = np.ascontiguousarray(np.rot90(hopper))[None]
    level = track_faces(lying, source=MeshLandmarks(mesh))
    assert not level.valid.any() and "upright" in level.passed[0].reason
    assert track_faces(lying, source=MeshLandmarks(mesh), profile=Profile(upright=True)).valid.all()


def test_the_track_of_a_clip_says_why_frames_pass_through(mesh: FaceMesh, hopper: np.ndarray) -> None:
    frames = np.repeat(hopper[None], 12, axis=0)
    frames[5:7] = 0
    track = track_faces(frames, source=MeshLandmarks(mesh))
    assert track.passed == (PassThrough(5, 6, "no face"),)
    assert ((track.weights > 0) & (track.weights < 1)).sum() == 6
    assert not track.boxes[5:7].any()
