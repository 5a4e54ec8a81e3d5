"""How many frames at a time sessions ask for, on machines of different speed."""

from fractions import Fraction

import pytest
import torch

from musetalk.live.cores import core_count, start_threads
from musetalk.live.tuning import Tuning, tune

FPS = Fraction(25)


@pytest.mark.parametrize(
    ("streams", "encode_ms", "frame_ms", "sessions", "hop"),
    [
        (1, 1, 5, 1, 1),
        (1, 8, 32, 1, 4),  # the whole of its time is too much, at any hop
        (2, 8, 32, 1, 1),
        (2, 20, 24, 2, 4),
        (1, 12, 25, 1, 2),  # what the sound costs is shared by two frames
        (1, 1, 5, 5, 1),
        (1, 1, 5, 6, 4),
        (4, 1, 5, 6, 1),
        (1, 8, 40, 8, 4),
    ],
)
def test_the_fewest_frames_that_leave_time(streams, encode_ms, frame_ms, sessions, hop):
    tuning = Tuning(True, streams, encode_ms / 1000, frame_ms / 1000)
    assert tuning.hop_frames(sessions, FPS) == hop


def test_trying_the_networks_changes_nothing(tiny_models):
    before = torch.get_num_threads()
    tuning = tune(tiny_models)
    assert tuning.thinned and tuning.streams >= 1 and tuning.encode_s > 0 and tuning.frame_s > 0
    assert torch.get_num_threads() == before


def test_each_of_several_threads_computes_with_one_core():
    counts = []

    def compute():
        torch.ones(64, 64) @ torch.ones(64, 64)
        counts.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for thread in start_threads(3, compute, "several", one_core=True):
            thread.join()
        assert counts == [1, 1, 1] and torch.get_num_threads() == 2
        for thread in start_threads(1, compute, "one", one_core=False):
            thread.join()
        assert counts[3:] == [2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("limit", "most"), [("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1)])
def test_a_containers_limit_is_kept(tmp_path, monkeypatch, limit, most):
    monkeypatch.setattr("musetalk.live.cores._QUOTA", tmp_path / "cpu.max")
    free = core_count()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert core_count() == free >= 1
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert core_count() == min(free, most)
