"""Clips compared with their reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musetalk.errors import InputError
from musetalk.evaluation import Evaluation, evaluate
from musetalk.evaluation.pixels import PixelMeter
from musetalk.evaluation.ssim import ssim_map
from musetalk.video.frames import FrameSource


def test_a_clip_against_itself_is_perfect(against_itself: Evaluation) -> None:
    found = against_itself.comparison
    assert found is not None and found.frames == 100
    assert found.opening_correlation == 1 and found.opening_rmse == 0
    assert found.likeness is not None and found.likeness.mean == pytest.approx(1, abs=1e-6)
    for region in (found.inside, found.outside):
        assert region is not None
        assert region.identical and region.psnr is None and region.changed_pixels == region.max_difference == 0
        assert region.ssim == 1
    assert found.inside is not None and found.outside is not None
    assert found.inside.pixels + found.outside.pixels == 100 * 270 * 330
    assert found.shake == against_itself.shake and found.motion == against_itself.motion


def test_another_mouth_changes_the_lower_face_only(talker, talk: FrameSource) -> None:
    closed = FrameSource.from_array(np.stack([talker.frame(0.0)] * 30))
    found = evaluate(talk, closed).comparison
    assert found is not None and found.frames == 30 and found.reference_frames == 30
    assert found.inside is not None and found.inside.psnr is not None and found.inside.psnr < 30
    assert found.inside.ssim is not None and found.inside.ssim < 0.95
    assert found.motion is not None and found.motion.still
    assert found.opening_rmse is not None and found.opening_rmse > 0.1


def test_our_own_paste_leaves_the_outside_alone(talker, mesh_models) -> None:
    from musetalk import decode_faces, paste_back, prepare_avatar

    source = FrameSource.from_array(np.stack([talker.frame(0.3)] * 6))
    avatar = prepare_avatar(mesh_models, source)
    faces = decode_faces(mesh_models, torch.randn(6, 4, 32, 32, generator=torch.Generator().manual_seed(0)))
    pasted = np.concatenate(list(paste_back(avatar, faces)))
    found = evaluate(FrameSource.from_array(pasted), source).comparison
    assert found is not None and found.outside is not None and found.inside is not None
    assert found.outside.identical and found.outside.ssim == 1
    assert found.inside.changed_pixels > 1000


@pytest.mark.parametrize("shape", [(40, 50), (33, 17)])
def test_ssim_is_that_of_torchmetrics(shape: tuple[int, int]) -> None:
    import cv2

    functional = pytest.importorskip("torchmetrics.functional.image")
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    second = np.clip(first.astype(int) + rng.integers(-40, 41, first.shape), 0, 255).astype(np.uint8)
    luma = [
        torch.from_numpy(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)).double()[None, None] for picture in (first, second)
    ]
    _, expected = functional.structural_similarity_index_measure(*luma, data_range=255.0, return_full_image=True)
    np.testing.assert_allclose(ssim_map(first, second), expected[0, 0].numpy(), atol=1e-5)


def test_psnr_of_a_known_case() -> None:
    first = np.full((64, 64, 3), 100, np.uint8)
    second = first.copy()
    second[20:30, 20:40] += 10
    meter = PixelMeter(np.array([[10, 10, 50, 50]]))
    meter.update(0, first, second)
    scores = meter.result()
    assert scores.inside is not None and scores.outside is not None
    squared = 100 * 200 / 1600
    assert scores.inside.psnr == pytest.approx(10 * np.log10(255**2 / squared))
    assert (scores.inside.changed_pixels, scores.inside.max_difference) == (200, 10)
    assert scores.outside.identical and scores.outside.ssim == 1
    assert scores.psnr_outside[0] == np.inf


def test_perceptual_distances_are_told_apart_by_region() -> None:
    first = np.zeros((64, 64, 3), np.uint8)
    second = first + 1
    distance = np.zeros((64, 64), np.float32)
    distance[10:50, 10:50] = 0.5
    meter = PixelMeter(np.array([[10, 10, 50, 50], [10, 10, 50, 50]]), lambda *_: distance)
    meter.update(0, first, second)
    meter.update(1, first, first)  # nothing differs: distance 0
    scores = meter.result()
    assert scores.inside is not None and scores.inside.lpips == pytest.approx(0.25)
    assert scores.outside is not None and scores.outside.lpips == 0


def test_an_identical_frame_counts_no_more_than_a_changed_one() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 200, (64, 64, 3)).astype(np.uint8)
    second = first.copy()
    second[:8] += 20  # far outside the region
    alone, both = (PixelMeter(np.array([[20, 20, 40, 40]] * 2), lambda *_: np.ones((64, 64))) for _ in range(2))
    alone.update(0, first, second)
    both.update(0, first, second)
    both.update(1, first, first)
    (one, half) = (meter.result().outside for meter in (alone, both))
    assert one is not None and half is not None and one.ssim is not None and one.ssim < 0.999
    assert half.ssim == pytest.approx((one.ssim + 1) / 2)
    assert (one.lpips, half.lpips) == (1, pytest.approx(0.5))


def test_a_length_of_its_own_is_reported(talk: FrameSource) -> None:
    shorter = FrameSource.from_array(talk[:20])
    found = evaluate(talk, shorter).comparison
    assert found is not None and (found.frames, found.reference_frames) == (20, 20)
    assert found.outside is not None and found.outside.identical


def test_a_faceless_clip_is_compared_all_the_same() -> None:
    rng = np.random.default_rng(0)
    empty = FrameSource.from_array(rng.integers(0, 256, (4, 96, 128, 3)).astype(np.uint8))
    found = evaluate(empty, empty)
    assert found.faces == 0 and found.motion is found.sync is found.shake is None
    assert "0 of 4" in found.missing["motion"] and "shake" in found.missing
    comparison = found.comparison
    assert comparison is not None and comparison.inside is None and comparison.likeness is None
    assert comparison.outside is not None and comparison.outside.identical
    assert {"comparison.inside", "comparison.likeness", "comparison.opening_correlation"} <= set(found.missing)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (FrameSource.from_array(np.zeros((3, 64, 48, 3), np.uint8)), "64x64 and the reference 48x64"),
        (FrameSource.from_array(np.zeros((3, 64, 64, 3), np.uint8), 30), "25 frames a second and the reference 30"),
    ],
)
def test_what_does_not_fit_is_refused(reference: FrameSource, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(FrameSource.from_array(np.zeros((3, 64, 64, 3), np.uint8)), reference)


def test_a_recognition_network_of_the_caller(talk: FrameSource) -> None:
    seen = []

    def embedding(picture: np.ndarray, face) -> np.ndarray:
        seen.append(picture.shape)
        return np.array([0.6, 0.8])

    few = FrameSource.from_array(talk[:3])
    found = evaluate(few, few, embedding=embedding).comparison
    assert found is not None and found.likeness is not None
    assert (found.likeness.measure, found.likeness.frames) == ("embedding", 3)
    assert found.likeness.mean == pytest.approx(1) and len(seen) == 6
