import pytest

from musetalk.errors import InputError
from musetalk.playback import check_loop, output_length, source_index, source_indices


@pytest.mark.parametrize(
    ("loop", "expected"),
    [
        ("ping-pong", [0, 1, 2, 2, 1, 0, 0, 1, 2, 2]),
        ("repeat", [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]),
        ("hold", [0, 1, 2, 2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_order_of_source_frames(loop, expected):
    assert source_indices(0, 10, 3, loop) == expected
    # A piece of the clip shows what the whole clip shows there.
    assert source_indices(4, 7, 3, loop) == expected[4:7]


def test_ping_pong_of_one_picture_stays_on_it():
    assert {source_index(i, 1) for i in range(7)} == {0}


def test_cut_ends_with_the_footage_but_not_with_a_still():
    assert output_length(100, 30, "cut") == 30
    assert output_length(20, 30, "cut") == 20
    assert output_length(100, 1, "cut", is_still=True) == 100
    assert output_length(100, 30, "ping-pong") == 100


def test_unknown_loop_is_refused():
    with pytest.raises(InputError, match=r"loop is 'bounce'; use one of ping-pong"):
        check_loop("bounce")
