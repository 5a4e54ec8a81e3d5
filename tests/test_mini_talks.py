"""The engine on musetalk-mini and a sentence whose sounds are known: the mouth in the picture says that sentence.

Openings are pixels of the 256 crop (`OpeningProbe`); a wide open mouth has about 27. The thresholds are far from what
the model reaches (docs/mini.md): they are there to catch an engine that shows the wrong frame, not a weaker model.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from musetalk import FrameSource, Speaker, lipsync, prepare_avatar
from musetalk.audio.features import open_windows
from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.evaluation.correlation import correlate, pearson
from musetalk.evaluation.truth import SHUT_BELOW, score_openings
from musetalk.render import Voice, render
from musetalk.schedule import Schedule
from musetalk.training.synthetic.espeak import Speech
from musetalk.training.synthetic.photos import PHOTOS

FACE = "astronaut"
NTSC = Fraction(30000, 1001)
FOLLOWS = 0.6
"""Correlation with the truth at and above which a mouth says what it should."""


@pytest.fixture(scope="module")
def clip(talking_clip):
    return talking_clip(FACE)


@pytest.fixture(scope="module")
def truth(clip):
    return clip.truth()


@pytest.fixture(scope="module")
def avatar(talking, mini_models, clip):
    return talking.still_avatar(mini_models, clip)


@pytest.fixture(scope="module")
def frames(talking, mini_models, avatar, clip):
    """The still says the whole sentence."""
    return talking.lip_sync(mini_models, avatar, clip.speech, range(len(clip)))


@pytest.fixture(scope="module")
def mouth(talking, frames, clip):
    """Openings in ``frames``."""
    return talking.openings(frames, FACE, clip)


def seconds(speech: Speech, start: float, stop: float) -> Speech:
    """The sound of a part; nothing is said about its phonemes."""
    return Speech(speech.samples[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)], ())


def source(speech: Speech) -> AudioSource:
    return AudioSource.from_array(speech.samples, SAMPLE_RATE)


def lag(talking, clip, part: range, found: np.ndarray) -> float:
    """Frames by which the mouth is late: openings of these frames against the truth of them and 15 on either side."""
    around = range(max(part.start - 15, 0), min(part.stop + 15, len(clip)))
    shown = np.full(len(clip), np.nan)
    shown[part.start : part.stop] = found
    curve = correlate(talking.true_openings(clip, around)[around.start :], shown[around.start :])
    assert curve is not None and curve.best > FOLLOWS, curve
    return curve.lag


def test_the_mouth_says_this_sentence_and_no_other(talking, clip, truth, mouth) -> None:
    scores = score_openings(mouth, truth, clip.still.tall, talking.other_truths(FACE))
    assert scores.correlation > FOLLOWS
    assert scores.others == 5 and scores.other_correlation < 0.3
    assert mouth.max() > 10


def test_lips_shut_on_p_b_m_and_open_else(clip, truth, mouth) -> None:
    scores = score_openings(mouth, truth, clip.still.tall)
    assert scores.shut_frames == 11 and scores.shut_closed >= 0.8
    assert scores.other_closed < 0.4


def test_a_voice_and_a_face_made_now(talking, talking_clip, mini_models, fresh_speech) -> None:
    """A drawn face: nothing here was recorded, and nothing was in training."""
    fresh = talking_clip("drawn", fresh_speech(2))
    part = range(min(32, len(fresh)))
    frames = talking.lip_sync(mini_models, talking.still_avatar(mini_models, fresh), fresh.speech, part)
    scores = score_openings(talking.openings(frames, "drawn", fresh), fresh.truth(), fresh.still.tall)
    assert scores.correlation > FOLLOWS


@pytest.mark.parametrize("face", [*PHOTOS, "drawn"])
def test_silence_is_a_closed_mouth(talking, talking_clip, mini_models, face) -> None:
    silent = Speech(np.zeros(SAMPLE_RATE, np.float32), ())
    rest = talking_clip(face)
    avatar = talking.still_avatar(mini_models, rest)
    found = talking.openings(talking.lip_sync(mini_models, avatar, silent, range(0, 25, 12)), face, rest)
    assert len(found) == 3 and found.max() < SHUT_BELOW * rest.still.tall


@pytest.fixture(scope="module")
def talking_footage(talking, talking_clip) -> tuple[np.ndarray, np.ndarray]:
    """The first 32 frames of a sentence that the sound does not hold: pictures, and openings."""
    other = talking_clip(FACE, talking.unheard()[0])
    shown = [frame for frame, _ in zip(other.talking(), range(32), strict=False)]
    pictures = np.stack([other.scene.with_face(frame.image) for frame in shown])
    return pictures, np.array([frame.opening for frame in shown])


@pytest.fixture(scope="module")
def talking_avatar(mini_models, talking_footage):
    return prepare_avatar(mini_models, talking_footage[0])


@pytest.fixture(scope="module")
def redrawn(talking, mini_models, talking_avatar, clip):
    """The talking footage says the recorded sentence instead of its own."""
    return talking.lip_sync(mini_models, talking_avatar, clip.speech, range(32))


def test_the_filmed_mouth_does_not_leak(talking, talking_footage, redrawn, clip, truth, mouth) -> None:
    filmed = talking_footage[1]
    found = talking.openings(redrawn, FACE, clip)
    assert pearson(found, truth.openings[:32].astype(float)) > FOLLOWS
    # By how much the mouth opens for each pixel that the filmed mouth is open, all else being equal.
    leak = np.polyfit(filmed, found - mouth[:32], 1)[0]
    assert filmed.max() > 20 and abs(leak) < 0.35


def test_streaming_equals_the_stages(mini_models, talking_avatar, redrawn, clip) -> None:
    windows = open_windows(mini_models, source(clip.speech), Fraction(25))
    schedule = Schedule(None, Fraction(25), heard=len(windows), length=12)
    pieces: list[np.ndarray] = []
    voice = Voice(talking_avatar.track, talking_avatar, windows, schedule)
    render(mini_models, talking_avatar.frames, [voice], 12, lambda part: pieces.append(part.copy()))
    np.testing.assert_array_equal(np.concatenate(pieces), redrawn[:12])


def test_batch_of_one_equals_batch_of_eight(talking, mini_models, avatar, frames, clip) -> None:
    alone = talking.lip_sync(mini_models, avatar, clip.speech, range(20, 28), batch_size=1)
    assert np.abs(alone.astype(int) - frames[20:28]).max() <= 1


def test_outside_the_mask_nothing_changes(avatar, frames) -> None:
    picture, mask = avatar.frames[0], avatar.mask_of(0)
    x0, y0, x1, y1 = mask.region
    free = np.ones(picture.shape[:2], bool)
    free[y0:y1, x0:x1] = mask.alpha == 0
    assert (frames[:, free] == picture[free]).all()
    assert all((frame != picture).any() for frame in frames)


def test_a_later_sound_moves_the_mouth_later(talking, mini_models, avatar, clip, mouth) -> None:
    late = talking.later(clip.speech, Fraction(7, 25))
    shown = talking.lip_sync(mini_models, avatar, late, range(17, 47))
    found = np.full(67, np.nan)
    found[17:47] = talking.openings(shown, FACE, clip)
    curve = correlate(np.concatenate([mouth, np.full(67 - len(mouth), np.nan)]), found)
    assert curve is not None and curve.best > 0.9 and curve.lag == pytest.approx(7, abs=0.3)


@pytest.mark.parametrize(
    ("fps", "border"), [(Fraction(25), 30), (Fraction(30), 30), (NTSC, 60)], ids=["25", "30", "29.97"]
)
def test_sound_and_mouth_agree_at_every_rate_and_over_segments(
    talking, talking_clip, mini_models, avatar, fps, border
) -> None:
    """The sentence lies over a border of the encoder's 30 s segments. A rate that is wrong by a thousandth would by
    then have put the mouth two frames off."""
    late = talking_clip(FACE, talking.later(talking.sentence(), border - Fraction(6, 5)), fps)
    middle = round(border * fps)
    part = range(middle - 16, middle + 16)
    found = talking.openings(talking.lip_sync(mini_models, avatar, late.speech, part, fps), FACE, late)
    assert abs(lag(talking, late, part, found)) < 0.5


def test_in_step_after_frames_without_a_face(talking, mini_models, avatar, clip, mouth) -> None:
    footage = np.repeat(avatar.frames[0][None], 30, axis=0)
    footage[8:14] = np.random.default_rng(0).integers(0, 60, footage[8:14].shape)
    prepared = prepare_avatar(mini_models, footage)
    assert np.flatnonzero(~prepared.track.valid).tolist() == list(range(8, 14))
    output = talking.lip_sync(mini_models, prepared, clip.speech, range(30))
    np.testing.assert_array_equal(output[8:14], footage[8:14])
    # Out of reach of the fade beside the gap, the mouth is the one of the footage without a gap.
    after = talking.openings(output[18:], FACE, clip)
    assert np.abs(after - mouth[18:30]).max() < 1.5 and np.ptp(after) > 8


def test_two_people_each_move_their_own_mouth(talking, talking_clip, mini_models, clip, tmp_path) -> None:
    """The left one says the beginning, the right one the end of the sentence, from file to file."""
    other = talking_clip("hopper")
    width = clip.scene.picture.shape[1]
    pictures = [talking.resting_picture(one) for one in (clip, other)]
    height = max(len(picture) for picture in pictures)
    halves = [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0)), mode="edge") for picture in pictures]
    footage = FrameSource.from_array(np.concatenate(halves, axis=1)[None])
    count, offset = 32, 20
    said = [seconds(clip.speech, start / 25, (start + count) / 25) for start in (0, offset)]
    speakers = [Speaker("left", source(said[0])), Speaker("right", source(said[1]))]
    report = lipsync(mini_models, footage, None, tmp_path / "two.mp4", speakers=speakers, preset="ultrafast")
    with FrameSource.open(report.output) as video:
        output = video[:]
    found = {
        FACE: talking.openings(output[:, :, :width], FACE, clip),
        "hopper": talking.openings(output[:, :, width:], "hopper", other),
    }
    starts = {FACE: 0, "hopper": offset}
    for face, mouth in found.items():
        wanted = {of: talking_clip(face).truth().openings[start : start + count] for of, start in starts.items()}
        follows = {of: pearson(mouth, openings.astype(float)) for of, openings in wanted.items()}
        (stranger,) = follows.keys() - {face}
        assert follows[face] > FOLLOWS and follows[stranger] < 0.4, (face, follows)
