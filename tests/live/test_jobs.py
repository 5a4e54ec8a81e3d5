"""Background jobs: a few at a time, in order, with an end for each."""

import threading

import pytest

from musetalk.errors import MuseTalkError
from musetalk.live.jobs import BackgroundJob, JobRunner, TooManyJobsError


def test_any_number_may_wait():
    runner, release = JobRunner(waiting=100), threading.Event()
    jobs = [runner.submit(BackgroundJob("test", str(i)), lambda job: release.wait(5)) for i in range(100)]
    assert runner.get(jobs[0].id) is jobs[0]
    release.set()
    assert jobs[-1].wait(5)
    runner.submit(BackgroundJob("test", "last"), lambda job: None).wait(5)
    assert runner.get(jobs[0].id) is None and runner.get(jobs[-1].id) is jobs[-1], "64 are remembered"
    runner.close()


def test_jobs_are_few_ordered_and_end_with_the_server():
    runner, release, order = JobRunner(waiting=3), threading.Event(), []

    def work(job):
        release.wait(5)
        job.at("only")
        order.append(job.subject)

    jobs = [runner.submit(BackgroundJob("test", name), work) for name in "abc"]
    with pytest.raises(TooManyJobsError):
        runner.submit(BackgroundJob("test", "d"), work)
    jobs[1].cancel()
    release.set()
    assert [job.wait(5) and job.state for job in jobs] == ["done", "cancelled", "done"] and order == ["a", "c"]
    failed = runner.submit(BackgroundJob("test", "e"), lambda job: 1 / 0)
    assert failed.wait(5) and failed.state == "failed" and "ZeroDivisionError" in failed.error
    runner.close()
    with pytest.raises(MuseTalkError, match="shutting down"):
        runner.submit(BackgroundJob("test", "f"), work)
