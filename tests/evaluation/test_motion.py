"""Mouths that do not move, and landmarks that shake."""

from __future__ import annotations

import numpy as np
import pytest

from musetalk.audio.source import AudioSource
from musetalk.evaluation import Evaluation, evaluate
from musetalk.evaluation.mouth import measure_mouth
from musetalk.face.track import FaceTrack
from musetalk.video.frames import FrameSource


def test_talking_moves(against_itself: Evaluation) -> None:
    motion, silent = against_itself.motion, against_itself.silent_motion
    assert motion is not None and not motion.still
    assert silent is not None and silent.still and silent.std < motion.std / 10
    assert against_itself.silent_seconds == pytest.approx(0.4, abs=0.2)


@pytest.fixture(scope="module")
def still_mouth(talker, drive: np.ndarray, speech_of) -> Evaluation:
    """The same voice over a face that shifts with grain on it, its mouth half open."""
    rng = np.random.default_rng(0)
    frame = talker.frame(0.4)
    frames = [np.roll(frame, (i // 8, i // 5), axis=(0, 1)) + rng.integers(0, 5, frame.shape) for i in range(40)]
    clip = np.stack(frames).clip(0, 255).astype(np.uint8)
    return evaluate(FrameSource.from_array(clip), audio=speech_of(drive[:40]))


def test_a_still_mouth_has_no_motion(still_mouth: Evaluation) -> None:
    assert still_mouth.motion is not None and still_mouth.motion.still
    assert still_mouth.sync is not None and still_mouth.sync.offset_frames is None
    assert still_mouth.missing["sync.offset_frames"] == "the mouth is still"


def test_a_frozen_picture_has_no_motion(talker, speech_of, drive: np.ndarray) -> None:
    found = evaluate(FrameSource.from_array(np.stack([talker.frame(0.5)] * 20)), audio=speech_of(drive[:20]))
    assert found.motion is not None and found.motion.still and found.motion.std < 0.012


def test_silent_sound(talk: FrameSource) -> None:
    found = evaluate(talk, audio=AudioSource.from_array(np.zeros(4 * 16000, np.float32), 16000))
    assert found.sync is None and found.missing["sync"] == "the sound is silent"
    assert found.silent_seconds == 4
    assert found.silent_motion is not None and not found.silent_motion.still


def test_sound_without_a_pause(talk: FrameSource) -> None:
    time = np.arange(4 * 16000) / 16000
    tone = (0.2 * np.sin(2 * np.pi * 700 * time) * (1.2 + np.sin(9 * time))).astype(np.float32)
    found = evaluate(talk, audio=AudioSource.from_array(tone, 16000))
    assert found.silent_seconds == 0 and found.silent_motion is None
    assert "no pause" in found.missing["silent_motion"]


def test_a_shaking_clip_shakes_more(talker) -> None:
    rng = np.random.default_rng(0)
    frame = talker.frame(0.2)
    shaken = [np.roll(frame, tuple(rng.integers(-2, 3, 2)), axis=(0, 1)) for _ in range(30)]
    calm, shaking = (evaluate(FrameSource.from_array(np.stack(clip))).shake for clip in ([frame] * 30, shaken))
    assert calm is not None and shaking is not None
    assert shaking.pixels > calm.pixels + 0.5  # two pixels each way are a sigma of 1.4
    assert shaking.relative == pytest.approx(shaking.pixels / 187, rel=0.15)


def track_of(landmarks: np.ndarray) -> FaceTrack:
    count = len(landmarks)
    boxes = np.tile(np.array([[10, 10, 110, 110]], np.int32), (count, 1))
    ones = np.ones(count, np.float32)
    return FaceTrack(boxes, np.ones(count, bool), landmarks.astype(np.float32), None, ones, ones, ones)


def test_opening_in_eye_distances_whatever_the_roll_and_size() -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-40, 0), (40, 0)
    points[[61, 62, 63], 1], points[[65, 66, 67], 1] = 60, 80
    points[60], points[64] = (-20, 70), (20, 70)
    clip = []
    for angle, size in ((0.0, 1.0), (0.5, 1.0), (-1.2, 2.0), (3.0, 0.3)):
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        clip.append(points @ turn.T + 100)
    mouth = measure_mouth(track_of(np.stack(clip)))
    np.testing.assert_allclose(mouth.opening, 20 / 80, atol=1e-5)
    np.testing.assert_allclose(mouth.width, 40 / 80, atol=1e-5)


def test_frames_without_a_face_are_unknown() -> None:
    landmarks = np.random.default_rng(0).normal(size=(6, 68, 2)) + 50
    landmarks[2] = np.nan
    mouth = measure_mouth(track_of(landmarks))
    assert mouth.known.tolist() == [True, True, False, True, True, True]
