"""The order of work: the earliest deadline first, turns when time is short, batches no larger than haste allows."""

from math import inf
from types import SimpleNamespace

import pytest
import torch

from musetalk.live.generator import FrameJob
from musetalk.live.scheduling import Lanes, Pace


def frame(source, session, deadline=inf):
    return FrameJob(
        SimpleNamespace(), source, torch.zeros(50, 4), deadline, session, 0, lambda: False, lambda result: None
    )


def lanes_with(jobs):
    lanes = Lanes()
    for job in jobs:
        if job.session not in lanes:
            lanes.open(job.session)
        lanes.add(job)
    return lanes


def taken(lanes, pace, now=0.0, most=16):
    return [(job.session, job.source) for job in lanes.take_frames(pace, now, most, 0.1)]


@pytest.fixture
def pace():
    """10 ms a frame in every size."""
    pace = Pace()
    for size in (1, 2, 4, 8, 16):
        pace.note(size, 0.01 * size)
    return pace


def test_earliest_deadline_first_while_all_can_be_in_time(pace):
    lanes = lanes_with([frame(1, "a", 0.5), frame(2, "b", 0.3), frame(3, "a", 0.4)])
    assert taken(lanes, pace, most=2) == [("b", 2), ("a", 3)]
    assert taken(lanes, pace) == [("a", 1)]


def test_a_batch_is_no_larger_than_its_most_urgent_frame_allows(pace):
    jobs = [frame(number, "a", 0.025 + 0.1 * number) for number in range(8)]
    lanes = lanes_with(jobs)
    assert [len(taken(lanes, pace)) for _ in range(3)] == [2, 4, 2]


def test_sessions_take_turns_when_not_all_can_be_in_time(pace):
    greedy = [frame(number, "greedy", 0.011 + 0.001 * number) for number in range(8)]
    modest = [frame(number, "modest", 0.03 + 0.001 * number) for number in range(2)]
    lanes = lanes_with([*greedy, *modest])
    first, second = taken(lanes, pace, most=1), taken(lanes, pace, now=0.01, most=1)
    assert {first[0][0], second[0][0]} == {"greedy", "modest"}


def test_work_without_haste_waits_for_all_other(pace):
    lanes = lanes_with([frame(1, "warm"), frame(2, "a", 5.0)])
    assert taken(lanes, pace) == [("a", 2)]
    assert taken(lanes, pace) == [("warm", 1)]


def test_a_single_frame_is_tried_before_any_time_is_known():
    lanes = lanes_with([frame(number, "a", 9.0) for number in range(16)])
    pace = Pace()
    assert len(taken(lanes, pace)) == 1
    pace.note(1, 0.001)
    assert len(taken(lanes, pace)) == 8


def test_an_outlier_is_forgotten():
    pace = Pace()
    pace.note(1, 60.0)
    for _ in range(100):
        pace.forget_a_little()
    assert pace.seconds(1) < 0.01
