"""The worker: every job answered once, whatever fails; the urgent first, nobody starved, nothing computed in vain."""

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musetalk.errors import InputError
from musetalk.live.errors import LiveError, SessionLimitError, UnknownSessionError
from musetalk.live.generator import EncodeJob, FrameJob
from musetalk.live.worker import Worker, WorkerBusyError, WorkerClosedError

WINDOW = torch.zeros(50, 4)


@dataclass
class FakeGenerator:
    """Frames that hold their source index. ``seconds`` per frame; more than ``budget`` at once do not fit."""

    seconds: float = 0.0
    budget: int = 16
    batches: list = field(default_factory=list)
    gate: threading.Event | None = None
    streams: int = 1
    max_batch: int = 16

    def generate(self, jobs):
        if self.gate is not None:
            self.gate.wait(5)
        self.batches.append([(job.session, job.source) for job in jobs])
        if len(jobs) > self.budget:
            raise torch.OutOfMemoryError("budget")
        if any(job.source < 0 for job in jobs):
            raise ValueError("no such frame")
        time.sleep(self.seconds * len(jobs))
        return [np.full((2, 2, 3), job.source, np.uint8) for job in jobs]

    def encode(self, jobs):
        if self.gate is not None:
            self.gate.wait(5)
        self.batches.append(len(jobs))
        if len(jobs) > self.budget:
            raise torch.OutOfMemoryError("budget")
        return [job.mel + 1 for job in jobs]


class Asker:
    """Makes jobs and collects their answers; ``wait`` returns them in the order they came."""

    def __init__(self):
        self.results = []
        self._came = threading.Condition()

    def done(self, result):
        with self._came:
            self.results.append(result)
            self._came.notify()

    def frame(self, source, session="one", deadline=inf, cancelled=lambda: False, done=None):
        return FrameJob(SimpleNamespace(), source, WINDOW, deadline, session, 7, cancelled, done or self.done)

    def sound(self, session="one", cancelled=lambda: False):
        return EncodeJob(torch.zeros(80, 4), 0.0, session, 7, cancelled, self.done)

    def wait(self, count):
        with self._came:
            assert self._came.wait_for(lambda: len(self.results) >= count, 5), f"{len(self.results)} of {count}"
            assert len(self.results) == count
            return list(self.results)


@pytest.fixture
def asker():
    return Asker()


def held_worker(generator, *sessions, **options):
    """A worker that computes one frame until ``generator.gate`` opens, so that what comes after is seen together."""
    generator.gate = threading.Event()
    worker = Worker(generator, 8, **options)
    worker.start()
    for session in (*sessions, "holder"):
        worker.register(session)
    worker.submit([Asker().frame(0, "holder")])
    while worker.waiting:
        time.sleep(0.001)
    return worker


def test_frames_come_back_in_batches_each_to_its_job(asker):
    generator = FakeGenerator()
    with Worker(generator, 2) as worker:
        worker.register("one")
        worker.submit([asker.frame(source) for source in range(40)])
        results = asker.wait(40)
    assert sorted(result.job.source for result in results) == list(range(40))
    assert all(result.frame[0, 0, 0] == result.job.source and result.job.generation == 7 for result in results)
    assert {len(batch) for batch in generator.batches} <= {1, 2, 4, 8, 16} and len(generator.batches) < 20
    assert (worker.frames, worker.dropped, worker.failed) == (40, 0, 0) and worker.seconds > 0


def test_cancelled_and_late_frames_are_dropped_uncomputed(asker):
    generator = FakeGenerator()
    worker = held_worker(generator, "one")
    soon = time.monotonic() + 0.02
    worker.submit([asker.frame(1, deadline=soon), asker.frame(2, cancelled=lambda: True), asker.frame(3)])
    worker.submit([asker.frame(4, cancelled=lambda: 1 / 0)])
    time.sleep(0.03)
    generator.gate.set()
    results = asker.wait(4)
    worker.close()
    assert {result.job.source for result in results if result.dropped} == {1, 2, 4}
    assert generator.batches == [[("holder", 0)], [("one", 3)]] and worker.dropped == 3


def test_sound_is_never_too_late_and_encoded_across_sessions(asker):
    generator = FakeGenerator()
    worker = held_worker(generator, "one", "two")
    worker.submit([asker.sound("one"), asker.sound("two"), asker.sound("one", cancelled=lambda: True)])
    generator.gate.set()
    results = asker.wait(3)
    worker.close()
    assert sum(result.dropped for result in results) == 1
    assert all((result.states == 1).all() for result in results if not result.dropped)
    assert sum(batch for batch in generator.batches if isinstance(batch, int)) == 2 == worker.encodes


def test_two_sounds_of_a_session_keep_their_order(asker):
    with Worker(FakeGenerator(), 1) as worker:
        worker.register("one")
        jobs = [asker.sound() for _ in range(20)]
        worker.submit(jobs)
        assert [result.job for result in asker.wait(20)] == jobs


def test_an_error_fails_its_batch_alone_and_work_goes_on(asker):
    with Worker(FakeGenerator(), 2) as worker:
        worker.register("one")
        worker.submit([asker.frame(-1)])
        (failed,) = asker.wait(1)
        worker.submit([asker.frame(5)])
        worked = asker.wait(2)[1]
        assert worker.healthy
    assert failed.frame is None and not failed.dropped
    assert isinstance(failed.error, LiveError) and "ValueError: no such frame" in str(failed.error)
    assert worked.frame is not None and worker.failed == 1


def test_one_sessions_bad_job_does_not_fail_the_others(asker):
    generator = FakeGenerator()
    worker = held_worker(generator, "one", "two")
    worker.submit([asker.frame(-1, "one"), *(asker.frame(source, "two") for source in range(1, 4))])
    generator.gate.set()
    results = asker.wait(4)
    worker.close()
    assert {result.job.source: result.error is None for result in results} == {-1: False, 1: True, 2: True, 3: True}


def test_errors_of_the_engine_come_through_as_they_are(asker):
    class Refusing(FakeGenerator):
        def generate(self, jobs):
            raise InputError("another width")

    with Worker(Refusing(), 1) as worker:
        worker.register("one")
        for source in range(3):
            worker.submit([asker.frame(source)])
            result = asker.wait(source + 1)[-1]
        assert isinstance(result.error, InputError) and not worker.healthy


def test_out_of_memory_halves_the_batch_once_and_stays_small(asker):
    generator = FakeGenerator(budget=4)
    worker = held_worker(generator, "one")
    worker._frame_pace.note(8, 0.001)
    worker.submit([asker.frame(source) for source in range(1, 25)])
    generator.gate.set()
    results = asker.wait(24)
    worker.close()
    sizes = [len(batch) for batch in generator.batches]
    # Neither sixteen nor its halves fit; quarters do, and all that come later are no larger.
    assert worker.out_of_memory == 3 and sizes.count(16) == 1 and sizes.count(8) == 2
    assert all(result.frame is not None for result in results) and worker.failed == 0


def test_a_batch_that_fits_in_halves_fails_nobody(asker):
    generator = FakeGenerator(budget=8)
    worker = held_worker(generator, "one")
    worker._frame_pace.note(16, 0.001)
    worker.submit([asker.frame(source) for source in range(1, 17)])
    generator.gate.set()
    assert all(result.frame is not None for result in asker.wait(16))
    worker.close()
    assert worker.failed == 0 and worker.out_of_memory == 1


def test_sounds_too_many_for_the_device_do_not_make_batches_of_frames_smaller(asker):
    sessions = [f"talk-{number}" for number in range(7)]
    generator = FakeGenerator(budget=4)
    worker = held_worker(generator, *sessions)
    worker._encode_pace.note(8, 0.001)
    worker.submit([asker.sound(session) for session in sessions])
    generator.gate.set()
    assert all(result.states is not None for result in asker.wait(7))
    assert worker.out_of_memory == 1 and worker.failed == 0
    generator.budget, asker.results = 16, []
    worker._frame_pace.note(16, 0.001)
    worker.submit([asker.frame(source, sessions[0]) for source in range(1, 33)])
    asker.wait(32)
    worker.close()
    assert any(len(batch) == 16 for batch in generator.batches if isinstance(batch, list))


def test_one_that_does_not_fit_alone_fails_and_the_next_is_tried(asker):
    with Worker(FakeGenerator(budget=0), 1) as worker:
        worker.register("one")
        worker.submit([asker.frame(1), asker.frame(2)])
        assert all("OutOfMemoryError: budget" in str(result.error) for result in asker.wait(2))


def test_a_device_that_is_out_of_order_answers_with_errors(asker, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: 1 / 0)
    with Worker(FakeGenerator(budget=0), 1) as worker:
        worker.register("one")
        worker.submit([asker.frame(1), asker.frame(2)])
        assert all("OutOfMemoryError" in str(result.error) for result in asker.wait(2))


def test_one_sessions_bad_frames_make_no_server_sick_that_works_for_others(asker):
    with Worker(FakeGenerator(max_batch=1), 2) as worker:
        worker.register("one")
        worker.submit([asker.frame(1), *(asker.frame(-1) for _ in range(4))])
        asker.wait(5)
        assert worker.healthy and worker.failed == 4


def test_streams_compute_side_by_side_and_a_sessions_sounds_in_order(asker):
    both_in = threading.Barrier(2)

    class Meeting(FakeGenerator):
        def generate(self, jobs):
            both_in.wait(5)
            return super().generate(jobs)

    before = torch.get_num_threads()
    with Worker(Meeting(streams=2, max_batch=1), 2) as worker:
        worker.register("one")
        worker.submit([asker.frame(source) for source in range(8)])
        assert {result.job.source for result in asker.wait(8) if result.frame is not None} == set(range(8))
        asker.results = []
        sounds = [asker.sound() for _ in range(40)]
        worker.submit(sounds)
        assert [result.job for result in asker.wait(40)] == sounds
    assert torch.get_num_threads() == before


def test_a_mistake_of_the_worker_silences_nobody(asker, monkeypatch):
    with Worker(FakeGenerator(), 1) as worker:
        worker.register("one")
        monkeypatch.setattr("musetalk.live.worker.too_late", lambda *_: 1 / 0)
        worker.submit([asker.frame(1)])
        assert "ZeroDivisionError" in str(asker.wait(1)[0].error)
        monkeypatch.undo()
        worker.submit([asker.frame(2)])
        assert asker.wait(2)[1].frame is not None and worker.healthy


def test_a_callback_that_raises_is_its_own_trouble(asker):
    def gone(result):
        raise RuntimeError("event loop is closed")

    with Worker(FakeGenerator(), 1) as worker:
        worker.register("one")
        worker.submit([asker.frame(1, done=gone), asker.frame(2)])
        assert asker.wait(1)[0].frame is not None


def test_sessions_are_capped_and_places_come_back():
    with Worker(FakeGenerator(), 2) as worker:
        worker.register("one")
        worker.register("two")
        worker.register("warming", background=True)
        with pytest.raises(SessionLimitError, match="2 sessions"):
            worker.register("three")
        with pytest.raises(LiveError, match="already"):
            worker.register("one")
        worker.unregister("one")
        worker.unregister("one")
        worker.register("three")
        assert worker.sessions == 2


def test_what_may_not_be_submitted(asker):
    worker = Worker(FakeGenerator(), 1, pending=4)
    with pytest.raises(UnknownSessionError, match="stranger"):
        worker.submit([asker.frame(1, "stranger")])
    worker.register("one")
    worker.submit([asker.frame(1)])
    with pytest.raises(WorkerBusyError, match="4 more exceed 4"):
        worker.submit([asker.frame(source) for source in range(4)])
    assert worker.waiting == 1
    worker.close()
    with pytest.raises(WorkerClosedError):
        worker.submit([asker.frame(1)])
    with pytest.raises(WorkerClosedError):
        worker.register("two")
    assert [result.dropped for result in asker.results] == [True]


def test_unregistering_and_closing_drop_what_waits(asker):
    generator = FakeGenerator()
    worker = held_worker(generator, "one", "two")
    worker.submit([asker.frame(1, "one"), asker.sound("one")])
    worker.submit([asker.frame(2, "two")])
    worker.unregister("one")
    closing = threading.Thread(target=worker.close)
    closing.start()
    generator.gate.set()
    closing.join(5)
    assert [result.dropped for result in asker.wait(3)] == [True] * 3
    assert generator.batches == [[("holder", 0)]] and not worker.healthy
    worker.close()


def test_no_thread_is_left_after_many_workers():
    before = threading.active_count()
    for _ in range(20):
        with Worker(FakeGenerator(), 1):
            pass
    assert threading.active_count() == before


@pytest.mark.parametrize("streams", [1, 3])
def test_in_a_storm_every_job_is_answered_exactly_once(streams):
    taken, answered = [], Counter()
    worker = Worker(FakeGenerator(seconds=0.0002, budget=6, streams=streams), 4, pending=32)

    def visit(number):
        random = Random(number)
        for turn in range(50):
            session = f"{number}-{turn}"
            worker.register(session)
            asker = Asker()
            for _ in range(4):
                jobs = [
                    asker.frame(
                        random.choice([-1, 1, 2]),
                        session,
                        time.monotonic() + random.uniform(-0.001, 0.02),
                        lambda: random.random() < 0.2,
                        lambda result: answered.update([result.job]),
                    )
                    for _ in range(random.randrange(12))
                ]
                with suppress(WorkerBusyError):
                    worker.submit(jobs)
                    taken.extend(jobs)
            worker.unregister(session)

    with worker:
        threads = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answered) == len(taken) > 1000 and set(answered.values()) == {1}
    assert worker.frames + worker.dropped + worker.failed == len(taken) and worker.sessions == 0
