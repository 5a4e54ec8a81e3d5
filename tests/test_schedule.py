"""When a speaker is redrawn: spans to frames, fades inside them, nothing outside."""

from fractions import Fraction

import numpy as np
import pytest

from musetalk.schedule import Schedule

FPS = Fraction(25)


def weights(spans, heard=50, length=50, fade=0.0) -> np.ndarray:
    schedule = Schedule(spans, FPS, heard=heard, length=length, fade=fade)
    assert len(schedule) == length
    return schedule.weights(range(length))


def span(first: int, stop: int) -> tuple[Fraction, Fraction]:
    return first / FPS, stop / FPS


def test_the_whole_sound_is_redrawn_without_a_fade() -> None:
    assert (weights(None, fade=1.0) == 1).all()


def test_a_sound_shorter_than_the_output_fades_out_before_its_end() -> None:
    found = weights(None, heard=20, fade=0.12)
    assert (found[:17] == 1).all() and (found[20:] == 0).all()
    np.testing.assert_allclose(found[17:20], [0.75, 0.5, 0.25])


def test_spans_fade_inside_themselves() -> None:
    found = weights([span(10, 30)], fade=0.12)
    np.testing.assert_allclose(found[9:14], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found[26:31], [1, 0.75, 0.5, 0.25, 0])
    assert (found[:10] == 0).all() and (found[30:] == 0).all()


def test_spans_that_touch_are_one() -> None:
    np.testing.assert_array_equal(weights([span(10, 20), span(20, 30)], fade=0.2), weights([span(10, 30)], fade=0.2))


def test_a_span_at_the_edge_of_the_output_does_not_fade_there() -> None:
    found = weights([span(0, 10), span(40, 50)], fade=0.12)
    assert found[0] == found[49] == 1 and 0 < found[9] < 1 and 0 < found[40] < 1


def test_a_span_shorter_than_its_fades_never_reaches_one() -> None:
    found = weights([span(10, 13)], fade=0.4)
    assert 0 < found[10:13].max() < 1 and found[11] >= found[10] == found[12]


def test_one_person_going_on_with_another_sound_does_not_fade_between() -> None:
    before = Schedule([span(10, 20)], FPS, heard=50, length=50, fade=0.2, beside=[span(20, 30)]).weights(range(50))
    after = Schedule([span(20, 30)], FPS, heard=50, length=50, fade=0.2, beside=[span(10, 20)]).weights(range(50))
    np.testing.assert_array_equal(before + after, weights([span(10, 30)], fade=0.2))


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(24), Fraction(60)])
def test_other_rates(fps: Fraction) -> None:
    schedule = Schedule([(Fraction(1), Fraction(2))], fps, heard=200, length=200)
    assert np.flatnonzero(schedule.weights(range(200))).tolist() == list(range(round(fps), round(2 * fps)))
