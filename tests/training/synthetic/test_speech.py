"""Spoken text with its phonemes, the mouth that says it, and what is kept from training."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.audio.windows import window_starts
from musetalk.errors import InputError
from musetalk.training.synthetic import scripts
from musetalk.training.synthetic.clip_folder import ClipOptions, cast
from musetalk.training.synthetic.espeak import Phoneme, Speech, Voice, speak
from musetalk.training.synthetic.visemes import PARAMETERS, VISEMES, sampled_poses, viseme_track, visemes_of

PRESS, JAW, PUCKER = (PARAMETERS.index(name) for name in ("press", "jaw", "pucker"))


def said(*sounds: tuple[float, str], seconds: float) -> Speech:
    """A speech with given phonemes; its sound is not looked at."""
    return Speech(
        np.zeros(round(seconds * SAMPLE_RATE), np.float32), tuple(Phoneme(start, ipa) for start, ipa in sounds)
    )


# ---- espeak-ng


@pytest.mark.usefixtures("espeak")
def test_speech_is_16_khz_sound_with_rising_phoneme_times():
    speech = speak("Bob makes a big map.", Voice("en-us+f2"))
    assert speech.samples.dtype == np.float32 and speech.samples.ndim == 1
    assert 0.1 < np.abs(speech.samples).max() <= 1
    assert 0.8 < speech.duration < 2.5
    starts = [phoneme.start for phoneme in speech.phonemes]
    assert starts == sorted(starts) and starts[0] >= 0 and starts[-1] <= speech.duration
    heard = [phoneme.ipa[0] for phoneme in speech.phonemes if phoneme.ipa]
    assert "".join(heard).startswith("bɑbmeksɐb")


@pytest.mark.usefixtures("espeak")
def test_a_hiss_starts_where_its_phoneme_does():
    speech = speak("Asa, asa, asa, asa.", Voice("en-us"))
    spectrogram = np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(speech.samples, 192)[::16])) ** 2
    hiss = spectrogram[:, 48:].sum(1) / (spectrogram.sum(1) + 1e-6)
    times = (np.arange(len(hiss)) * 16 + 96) / SAMPLE_RATE
    starts = [phoneme.start for phoneme in speech.phonemes if phoneme.ipa == "s"]
    assert len(starts) == 4
    for start in starts:
        near = (times > start - 0.06) & (times < start + 0.06)
        first_hiss = times[near][np.argmax(hiss[near] > hiss[near].max() / 2)]
        assert abs(first_hiss - start) < 0.025


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize("name", ["", "xx", "+f2", "en-us+nobody", "en-us+", "../../../etc/passwd", "en-us+f2\0"])
def test_an_unknown_voice_is_refused(name):
    with pytest.raises(InputError, match="no voice"):
        speak("Hello", Voice(name))


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize("text", ["", "  \n", "a\0b"])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(InputError):
        speak(text, Voice("en-us"))


@pytest.mark.usefixtures("espeak")
def test_a_setting_out_of_range_is_refused():
    for voice in (Voice("en-us", rate=20), Voice("en-us", pitch=101), Voice("en-us", range=-1)):
        with pytest.raises(InputError, match="outside"):
            speak("Hello", voice)


# ---- visemes


def test_phonemes_become_visemes():
    assert visemes_of("") == ("silence",)
    assert visemes_of("aɪ") == ("aa", "ih")
    assert visemes_of("tʃ") == ("tdn", "sh")
    assert visemes_of("ɑ̃") == ("aa",)
    assert visemes_of("iː") == ("iy",)
    assert visemes_of("ǃ") == ("uh",), "an unknown sound is not a pause"
    assert all(pose.shape == (6,) for pose in VISEMES.values())


@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001), 24])
def test_a_track_has_a_pose_for_every_whole_frame(fps):
    speech = said((0.0, "a"), (0.5, "m"), (0.6, "a"), seconds=1.01)
    track = viseme_track(speech, fps)
    assert len(track.poses) == len(track.shut) == len(track.names) == int(Fraction(101, 100) * Fraction(fps))
    assert track.poses.dtype == np.float32
    np.testing.assert_array_equal(track.poses, sampled_poses(speech, (np.arange(len(track.poses)) + 0.5) / float(fps)))


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(30000, 1001)])
def test_a_track_has_as_many_frames_as_the_engine_makes(fps):
    # 18560 samples are exactly 29 frames at 25 fps, which 1.16 s * 25 in floats is not.
    for samples in (18560, *range(1600, 48000, 640), 47999, 534, 533 * 25):
        track = viseme_track(Speech(np.zeros(samples, np.float32), (Phoneme(0.0, "a"),)), fps)
        assert max(1, len(track.poses)) == len(window_starts(samples, fps)), samples


@pytest.mark.parametrize("consonant", ["p", "b", "m"])
@pytest.mark.parametrize("offset", np.arange(0.4, 0.44, 0.005))
def test_even_the_shortest_closure_shuts_the_mouth_on_a_frame(consonant, offset):
    track = viseme_track(said((0.0, "a"), (offset, consonant), (offset + 0.03, "a"), seconds=1))
    assert 1 <= track.shut.sum() <= 2
    assert (track.poses[track.shut, PRESS] == 1).all()
    assert track.poses[[5, 20], JAW].min() > 0.8, "open before and after"
    assert track.poses[[5, 20], PRESS].max() < 0.05


def test_lips_round_before_the_sound_and_rest_in_silence():
    speech = said((0.0, ""), (0.5, "u"), (0.8, ""), seconds=1.2)
    quiet, early, late = sampled_poses(speech, np.array([0.2, 0.48, 0.65]))
    assert quiet[PUCKER] == 0 and 0.3 < early[PUCKER] < late[PUCKER]
    np.testing.assert_allclose(quiet, VISEMES["silence"], atol=1e-6)


def test_a_language_switch_is_no_sound():
    plain = said((0.0, "a"), (0.4, "l"), (0.5, "o"), seconds=1)
    switched = said((0.0, "a"), (0.4, "(en)"), (0.4, "l"), (0.5, "(fr)"), (0.5, "o"), seconds=1)
    np.testing.assert_array_equal(viseme_track(plain).poses, viseme_track(switched).poses)


@pytest.mark.parametrize("speech", [said(seconds=0.5), said((0.0, ""), seconds=0.5)])
def test_nothing_said_is_a_mouth_at_rest(speech):
    track = viseme_track(speech)
    np.testing.assert_allclose(track.poses, np.tile(VISEMES["silence"], (12, 1)), atol=1e-6)
    assert not track.shut.any() and set(track.names) == {"silence"}


def test_a_speech_shorter_than_a_frame_has_no_frames():
    assert viseme_track(said((0.0, "a"), seconds=0.02)).poses.shape == (0, 6)


# ---- scripts


@pytest.mark.parametrize("language", scripts.LANGUAGES)
def test_sentences_are_kept_apart(language):
    known = scripts.texts(language)
    parts = [set(known[part]) for part in scripts.PARTS]
    assert [len(part) for part in parts] == [40, 12, 12]
    assert len(set.union(*parts)) == 64
    assert len(set(known["words"].split())) >= 200


def test_voices_are_kept_apart():
    variants = [variant for part in scripts.PARTS for variant in scripts.VARIANTS[part]]
    assert len(set(variants)) == len(variants)
    assert all(len(scripts.VARIANTS[part]) >= 8 for part in scripts.PARTS)


def assert_within(part, lines, voice):
    """Nothing of this is of another part."""
    language, variant = voice.name[:2], voice.name.partition("+")[2]
    assert variant in scripts.VARIANTS[part]
    known = scripts.texts(language)
    words = set(known["words"].split()) if part == "training" else set()
    for line in lines:
        assert line in known[part] or set(line.rstrip(".").replace(",", "").split()) <= words


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize("part", scripts.PARTS)
def test_a_narration_keeps_to_its_part(part):
    told = [scripts.narration(2, np.random.default_rng(seed), part) for seed in range(40)]
    for one in told:
        assert_within(part, one.lines, one.voice)
    assert {one.voice.name[:2] for one in told} == set(scripts.LANGUAGES)
    again = scripts.narration(2, np.random.default_rng(7), part)
    assert (again.voice, again.lines[0]) == (told[7].voice, told[7].lines[0])


def test_a_held_out_line_is_of_the_test_part():
    for seed in range(40):
        line, voice = scripts.held_out_line(np.random.default_rng(seed))
        assert_within("test", [line], voice)


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize(("held_out", "part"), [(False, "training"), (True, "test")])
def test_clips_say_what_their_options_allow(held_out, part):
    for index in range(3):
        _, known = cast(index, ClipOptions(seconds=1, held_out=held_out, faces="photographs"))
        assert_within(part, known.lines, Voice(known.voice.split()[0]))


@pytest.mark.usefixtures("espeak")
def test_every_voice_is_installed():
    for part in scripts.PARTS:
        for variant in scripts.VARIANTS[part]:
            speak("ma", Voice(f"en-us+{variant}"))
    for base in ("en-us", "en-gb-x-rp", "en-gb-scotland", "de", "fr", "es", "es-419", "it"):
        speak("ma", Voice(base))


@pytest.mark.usefixtures("espeak")
def test_training_and_its_validation_speak_as_their_parts(monkeypatch):
    said = []
    monkeypatch.setattr(scripts, "speak", lambda text, voice: said.append((text, voice)) or speak(text, voice))
    for held_out, part in ((False, "training"), (True, "validation")):
        said.clear()
        scripts.utterance(4, np.random.default_rng(1), held_out)
        assert said
        for text, voice in said:
            assert_within(part, [text], voice)


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize("held_out", [False, True])
def test_an_utterance_lasts_as_long_as_asked_and_keeps_its_times(held_out):
    speech = scripts.utterance(7, np.random.default_rng(0), held_out)
    assert len(speech.samples) == 7 * SAMPLE_RATE
    starts = np.array([phoneme.start for phoneme in speech.phonemes])
    assert (np.diff(starts) >= 0).all() and starts[-1] < 7
    # Long pauses are the quiet between lines: times that drift would not find them.
    for phoneme, following in zip(speech.phonemes, speech.phonemes[1:], strict=False):
        if not phoneme.ipa and following.start - phoneme.start > 0.15:
            middle = speech.samples[
                int((phoneme.start + 0.1) * SAMPLE_RATE) : int((following.start - 0.02) * SAMPLE_RATE)
            ]
            assert np.abs(middle).max() < 0.02
