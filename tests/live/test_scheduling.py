"""The order of work: the earliest deadline first, turns when time is short, batches no larger than haste allows."""

from collections import Counter
from math import inf
from types import SimpleNamespace

import pytest
import torch

from musetalk.live.generator import FrameJob
from musetalk.live.scheduling import Lanes, Pace, too_late


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


def test_work_without_haste_goes_on_where_there_is_always_other(pace):
    lanes = lanes_with([*(frame(number, "warm") for number in range(100)), frame(0, "a", 5.0)])
    served = Counter()
    for _ in range(104):
        served.update(session for session, _ in taken(lanes, pace))
        if not any(job.session == "a" for job in lanes.jobs()):
            lanes.add(frame(0, "a", 5.0))
    assert served["a"] == 100 and 4 <= served["warm"] <= 16


def test_a_single_frame_is_tried_before_any_time_is_known():
    lanes = lanes_with([frame(number, "a", 9.0) for number in range(16)])
    pace = Pace()
    assert len(taken(lanes, pace)) == 1
    pace.note(1, 0.001)
    assert len(taken(lanes, pace)) == 8


def test_an_outlier_is_forgotten():
    pace = Pace()
    pace.note(1, 60.0)
    for now in range(100):
        too_late([frame(1, "a", now + 0.1)], pace, now)
    assert pace.seconds(1) < 0.1


def test_what_is_refused_beside_work_that_is_done_changes_no_pace(pace):
    late = frame(1, "a", 0.001)
    assert too_late([late, frame(2, "a", 0.5)], pace, 0.0) == {late} and too_late([], pace, 0.0) == set()
    assert pace.seconds(1) == 0.01
    assert too_late([late], pace, 0.0) == {late} and pace.seconds(1) < 0.01


def simulated(sessions, cost, seconds=5.0, fps=25):
    """Frames in time per session, dropped and computed too late, where a batch of n takes ``cost(n)`` seconds.

    Every other session asks 0.3 s ahead, the others 0.12 s. What a worker does, in a time that is only counted.
    """
    lanes, pace = Lanes(), Pace()
    for session in range(sessions):
        lanes.open(str(session))
    coming = [
        (number / fps + 0.003 * session, session) for number in range(int(seconds * fps)) for session in range(sessions)
    ]
    coming.sort(reverse=True)
    now, in_time, dropped, late = 0.0, Counter(), 0, 0
    while coming or any(lanes.jobs()):
        if not any(lanes.jobs()):
            now = max(now, coming[-1][0])
        while coming and coming[-1][0] <= now:
            begin, session = coming.pop()
            lanes.add(frame(0, str(session), begin + (0.3 if session % 2 else 0.12)))
        out = too_late(list(lanes.jobs()), pace, now)
        lanes.discard(out)
        dropped += len(out)
        batch = lanes.take_frames(pace, now, 16, 0.1)
        if batch:
            now += cost(len(batch))
            pace.note(len(batch), cost(len(batch)))
            in_time.update(job.session for job in batch if job.deadline >= now)
            late += sum(job.deadline < now for job in batch)
    return in_time, dropped, late


@pytest.mark.parametrize("sessions", [9, 12, 24])
@pytest.mark.parametrize("cost", [lambda n: 0.005 + 0.005 * n, lambda n: 0.02 + 0.001 * n], ids=["steep", "flat"])
def test_under_any_load_no_session_starves_and_time_is_not_wasted(sessions, cost):
    in_time, _, late = simulated(sessions, cost)
    possible = min(sessions * 125, 5 * 16 / cost(16))
    assert sum(in_time.values()) >= 0.7 * possible
    assert len(in_time) == sessions and min(in_time.values()) >= 0.5 * sum(in_time.values()) / sessions
    assert late <= 0.02 * sum(in_time.values())


@pytest.mark.parametrize("sessions", [1, 4])
def test_within_capacity_nothing_is_late(sessions):
    in_time, dropped, late = simulated(sessions, lambda n: 0.005 + 0.005 * n)
    assert in_time == {str(session): 125 for session in range(sessions)} and dropped == late == 0
