from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from musetalk.face import smoothing
from musetalk.face.finish import make_track
from musetalk.face.given import GivenLandmarks
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.one_euro import OneEuro, smooth_live
from musetalk.face.sightings import Sightings
from musetalk.face.smoothing import jitter, smooth, steady_runs
from musetalk.face.tracking import track_faces
from musetalk.profile import Profile

from .people_clips import compose, hopper, textured

FPS = Fraction(25)
MOUTH = [*range(4, 13), *range(55, 60), 65, 66, 67]
CENTRE = np.array([320.0, 240.0])


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """68 points spread over 100 by 120 pixels."""
    return (np.random.default_rng(0).uniform(-1, 1, (68, 2)) * [50, 60] + CENTRE).astype(np.float32)


def clip_of(face: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(face[None], frames, axis=0), np.ones(frames, bool)


def nodding(face: np.ndarray, hertz: float, pixels: float, fps: Fraction, frames: int = 150) -> np.ndarray:
    points, _ = clip_of(face, frames)
    points[..., 1] += pixels * np.sin(2 * np.pi * hertz * np.arange(frames) / float(fps))[:, None]
    return points


def noisy(points: np.ndarray, sigma: float = 0.5) -> np.ndarray:
    return (points + np.random.default_rng(1).normal(0, sigma, points.shape)).astype(np.float32)


def test_jitter_is_the_sigma_of_white_noise_even_on_a_moving_face(face: np.ndarray) -> None:
    points, seen = clip_of(face, 200)
    assert jitter(points, seen) == 0
    assert jitter(noisy(points), seen) == pytest.approx(0.5, rel=0.03)
    points += np.arange(200)[:, None, None]
    points[120:] += 90
    assert jitter(noisy(points), seen) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("seen", [[], [1], [1, 1], [1, 1, 0, 1, 1, 0]])
def test_jitter_needs_three_frames_in_a_row(face: np.ndarray, seen: list[int]) -> None:
    assert jitter(clip_of(face, len(seen))[0], np.array(seen, bool)) is None


@pytest.mark.parametrize("fps", [10, 24, Fraction(30000, 1001), 60])
def test_noise_falls_to_a_third_and_further_with_strength(face: np.ndarray, fps: Fraction) -> None:
    points, seen = clip_of(face, 300)
    points = noisy(points)
    left = [jitter(smooth(points, seen, strength, Fraction(fps)), seen) for strength in (0, 0.5, 1, 2, 4)]
    assert left[2] <= left[0] / 3
    assert left == sorted(left, reverse=True) and len(set(left)) == 5


@pytest.mark.parametrize("fps", [25, 60])
def test_nods_and_syllables_are_kept(face: np.ndarray, fps: int) -> None:
    points = nodding(face, 2, 6, Fraction(fps))
    smoothed = smooth(points, np.ones(150, bool), 1, Fraction(fps))
    assert np.ptp(smoothed[40:-40, 0, 1]) > 0.97 * np.ptp(points[40:-40, 0, 1])
    points, seen = clip_of(face, 150)
    points[:, MOUTH] = nodding(face, 4, 3, Fraction(fps))[:, MOUTH]
    smoothed = smooth(points, seen, 1, Fraction(fps))
    for point in MOUTH[0], MOUTH[-1]:
        assert np.ptp(smoothed[40:-40, point, 1]) > 0.9 * np.ptp(points[40:-40, point, 1])
    assert np.abs(smoothed[:, 0] - points[:, 0]).max() < 0.02, "a mouth that opens moves nothing else"


def test_nothing_lags(face: np.ndarray) -> None:
    points, seen = clip_of(face, 101)
    points[50] += 5
    impulse = smooth(points, seen, 1, FPS) - face
    np.testing.assert_allclose(impulse, impulse[::-1], atol=1e-3)
    assert impulse[50].min() > 1
    points[50:] = face + 5
    points[50] = face + 2.5
    step = smooth(points, seen, 1, FPS) - face
    np.testing.assert_allclose(step + step[::-1], 5, atol=1e-3)


@pytest.mark.parametrize("frames", [2, 3, 6, 9, 12, 40])
@pytest.mark.parametrize("strength", [0.3, 1, 4])
def test_even_motion_passes_unchanged_to_the_very_ends(face: np.ndarray, frames: int, strength: float) -> None:
    time = np.linspace(0, 1, frames)[:, None, None]
    moving = (face - CENTRE) * (1 + 0.3 * time) + CENTRE + 20 * time * [3, -1] + 30 * time**2 * [-1, 2]
    smoothed = smooth(moving.astype(np.float32), np.ones(frames, bool), strength, FPS)
    np.testing.assert_allclose(smoothed, moving, atol=2e-3)
    assert smoothed.dtype == np.float32


def test_no_strength_changes_nothing_and_gaps_stay_gaps(face: np.ndarray) -> None:
    points, seen = clip_of(face, 60)
    points = noisy(points)
    assert smooth(points, seen, 0, FPS) is points
    seen[[0, 20, 21, 45]] = False
    points[~seen] = np.nan
    smoothed = smooth(points, seen, 1, FPS)
    assert np.isnan(smoothed[~seen]).all() and np.isfinite(smoothed[seen]).all()
    np.testing.assert_allclose(smoothed[22:45], smooth(points[22:45], seen[22:45], 1, FPS), atol=1e-4)


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_short_clips(face: np.ndarray, frames: int) -> None:
    points, seen = clip_of(face, frames)
    np.testing.assert_array_equal(smooth(noisy(points), seen, 1, FPS), noisy(points))
    np.testing.assert_array_equal(smooth(points, ~seen, 1, FPS), points)


@pytest.mark.parametrize("change", ["place", "size", "jump cut", "one frame of something else"])
def test_a_cut_is_not_smoothed_over(face: np.ndarray, change: str) -> None:
    points, seen = clip_of(face, 60)
    later = {
        "place": face + np.float32(80),
        "size": (face - face.mean(0)) * np.float32(1.6) + face.mean(0),
        "jump cut": face + np.float32(13),
        "one frame of something else": face + np.float32(80),
    }[change]
    points[30 : 31 if change.startswith("one") else None] = later
    points = noisy(points, 0.2)
    smoothed = smooth(points, seen, 1, FPS)
    np.testing.assert_allclose(smoothed, points, atol=1.5)
    assert jitter(smoothed, seen) < 0.1


def test_a_known_cut_is_not_smoothed_over_however_small_its_step(face: np.ndarray) -> None:
    points, seen = clip_of(face, 60)
    points[30:] += 0.05 * np.ptp(face, axis=0).max()
    assert np.abs(smooth(points, seen, 1, FPS) - points).max() > 1.5, "by itself it might be motion"
    np.testing.assert_allclose(smooth(points, seen, 1, FPS, (30,)), points, atol=1e-3)
    np.testing.assert_allclose(smooth_live(points, seen, 1, FPS, (30,)), points, atol=1e-3)
    assert steady_runs(points, seen, (0, 30, 60, 99)) == [(0, 30), (30, 60)]


def test_the_cuts_of_a_clip_reach_the_smoothing(mesh: FaceMesh) -> None:
    """A new set, in front of which the face is 0.05 of its size further to the right."""
    places = (240, 130, 100), (245, 130, 100)
    frames, _ = compose([(hopper(), lambda i: places[i >= 12])], 24, lambda i: textured(seed=i // 12))
    raw, smoothed, live = (
        track_faces(frames, source=MeshLandmarks(mesh), profile=profile, live=live).landmarks
        for profile, live in ((Profile(smoothing=0), False), (Profile(), False), (Profile(), True))
    )
    assert 3 < np.abs(raw[12] - raw[11]).mean(axis=0)[0] < 7
    np.testing.assert_allclose(smoothed[11:13], raw[11:13], atol=0.5)
    np.testing.assert_allclose(live[12], raw[12], atol=1e-3)


def test_no_frame_is_decoded_to_find_cuts() -> None:
    class Clip:
        """Gives its first frame, from which the size is known."""

        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: slice) -> np.ndarray:
            assert index == slice(0, 1)
            return np.zeros((1, 480, 640, 3), np.uint8)

    landmarks = noisy(np.repeat(np.random.default_rng(0).uniform(200, 300, (1, 68, 2)), 20, axis=0))
    assert track_faces(Clip(), source=GivenLandmarks(landmarks)).jitter is not None


def test_live_no_frame_depends_on_a_later_one(mesh: FaceMesh) -> None:
    """The face moves, is away for two frames, and is at another place after a cut."""

    def course(i: int) -> tuple[float, float, float] | None:
        return None if i in (8, 9) else (150 + 4 * i if i < 14 else 300, 130, 80)

    frames, _ = compose([(hopper(), course)], 18, lambda i: textured(seed=i // 14))
    whole = track_faces(frames, source=MeshLandmarks(mesh), live=True)
    assert whole.valid.any() and not whole.valid.all()
    for k in (1, 6, 8, 10, 11, 14, 15):
        part = track_faces(frames[:k], source=MeshLandmarks(mesh), live=True)
        for name in ("boxes", "valid", "landmarks", "mesh", "scores", "weights", "confidence"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:k], err_msg=f"{name} of {k}")
    later = track_faces(frames, source=MeshLandmarks(mesh))
    assert np.nanmax(np.abs(later.landmarks - whole.landmarks)) > 0.05, "which smoothing both ways is not"


def test_a_fast_head_is_not_torn(face: np.ndarray) -> None:
    shaking = nodding(face, 3, 40, FPS)
    assert steady_runs(shaking, np.ones(150, bool)) == [(0, 150)]
    points, seen = clip_of(face, 40)
    points[..., 0] += (150 / (1 + np.exp(-(np.arange(40) - 20) / 1.2)))[:, None]
    assert steady_runs(points, seen) == [(0, 40)]
    assert steady_runs(points + np.arange(40)[:, None, None] * 50, seen) == [(0, 40)], "at any speed"


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_filtering_in_parts_changes_nothing(face: np.ndarray, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    points, seen = noisy(nodding(face, 1, 9, FPS)), np.ones(150, bool)
    points[90:] += 80
    whole = smooth(points, seen, 1, FPS)
    monkeypatch.setattr(smoothing, "_CHUNK", chunk)
    np.testing.assert_allclose(smooth(points, seen, 1, FPS), whole, atol=1e-3)


def test_a_single_point_may_be_smoothed() -> None:
    track = noisy(np.full((80, 1, 2), 50, np.float32))
    smoothed = smooth(track, np.ones(80, bool), 1, FPS)
    assert np.isfinite(smoothed).all() and smoothed[10:-10].std() < 0.8 * track.std()


def test_the_track_reports_its_jitter_unless_told_not_to_smooth(face: np.ndarray) -> None:
    points, _ = clip_of(face, 50)
    seen = Sightings(noisy(points), None, np.full((50, 4), np.nan), np.ones(50, np.float32))
    track = make_track(seen, (640, 480), FPS, Profile())
    assert track.jitter is not None and track.jitter.smoothed < track.jitter.raw / 3
    for options in ({"still": True, "profile": Profile()}, {"profile": Profile(parity=True)}):
        plain = make_track(seen, (640, 480), FPS, **options)
        np.testing.assert_array_equal(plain.landmarks, seen.landmarks)
        assert plain.jitter is None


@pytest.mark.parametrize("scale", [0.3, 1, 6])
def test_live_a_still_face_is_steadied_at_any_resolution(face: np.ndarray, scale: float) -> None:
    points, seen = clip_of(face * np.float32(scale), 300)
    points = noisy(points, 0.05 * scale)
    left = [jitter(smooth_live(points, seen, strength, FPS), seen) for strength in (0, 0.5, 1, 2, 4)]
    assert left[2] < 0.36 * left[0]
    assert left == sorted(left, reverse=True) and len(set(left)) == 5


def test_live_a_moving_face_is_followed(face: np.ndarray) -> None:
    points, seen = clip_of(face, 50)
    points += 3 * np.arange(50)[:, None, None]
    behind = points - smooth_live(points, seen, 1, FPS)
    assert behind.min() >= 0 and behind.max() < 3, "less than a frame"
    points, seen = nodding(face, 2, 6, FPS), np.ones(150, bool)
    assert np.ptp(smooth_live(points, seen, 1, FPS)[50:, 0, 1]) > 0.9 * 12


def test_live_a_gap_or_a_leap_starts_afresh(face: np.ndarray) -> None:
    step = OneEuro(1, FPS)
    np.testing.assert_array_equal(step(face), face)
    assert np.abs(step(face + 1) - face - 1).max() > 0.1
    assert step(None) is None
    np.testing.assert_array_equal(step(face + 9), face + 9)
    np.testing.assert_array_equal(step(face + 60), face + 60)
    steadied = step(noisy(face[None] + 60)[0])
    assert steadied.dtype == np.float32 and steadied.shape == face.shape


def test_live_is_the_filter_called_frame_by_frame(face: np.ndarray) -> None:
    points, seen = clip_of(face, 20)
    points = noisy(points)
    seen[7] = False
    points[7] = np.nan
    step = OneEuro(1, FPS)
    rows = [step(row if known else None) for row, known in zip(points, seen, strict=True)]
    whole = smooth_live(points, seen, 1, FPS)
    assert rows[7] is None and np.isnan(whole[7]).all()
    np.testing.assert_array_equal(whole[seen], np.stack([row for row in rows if row is not None]))


def test_a_picture_that_turns_is_no_change_of_shape(face: np.ndarray) -> None:
    """A head rocking at 2 Hz keeps its roll: the whole-face motion is shift, turn and zoom."""
    angles = 12 * np.sin(2 * np.pi * 2 * np.arange(100) / 25)
    turned = [cv2.getRotationMatrix2D((320.0, 240.0), float(a), 1) for a in angles]
    points = np.stack([face @ m[:, :2].T + m[:, 2] for m in turned]).astype(np.float32)
    smoothed = smooth(points, np.ones(100, bool), 1, FPS)
    np.testing.assert_allclose(smoothed[10:-10], points[10:-10], atol=0.35)
