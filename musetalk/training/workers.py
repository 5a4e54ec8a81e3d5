"""Videos worked on in parallel processes, of which some may die."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import cv2
import torch

from ..errors import InputError, MuseTalkError, OutputError
from ..face.published import open_landmarks
from ..face.sources import LandmarkSource
from .preprocess import Settings, is_prepared, prepare_video, unfinished

_DIED = "the process working on it died twice, for want of memory or by a fault of the decoder"


@dataclass(frozen=True)
class Job:
    """What a worker is told; see ``prepare_video``. models: folder with DWPose's weights."""

    path: Path
    name: str
    content: str
    folder: Path
    settings: Settings
    models: Path


def run_jobs(jobs: Sequence[Job], workers: int) -> Generator[str, None, None]:
    """Prepare videos, and give what is wrong with each in their order, empty where nothing.

    With one worker everything happens in this process. Otherwise a video whose process dies is tried again alone, and
    is given up when that dies too. Close the generator to stop: videos not begun are left.
    Raises OutputError, ModelFileError for weights, and MuseTalkError where no worker can be started.
    """
    if workers == 1:
        for job in jobs:
            yield _run(job)
        return
    tried: dict[str, str] = {}
    done = 0
    while done < len(jobs):
        try:
            with _pool(workers) as pool:
                futures: dict[str, Future[str]] = {
                    job.content: pool.submit(_run, job) for job in jobs[done:] if job.content not in tried
                }
                for job in jobs[done:]:
                    problem = tried[job.content] if job.content in tried else futures[job.content].result()
                    done += 1
                    yield problem
        except BrokenProcessPool as error:
            suspects = [job for job in jobs[done:] if job.content not in tried and unfinished(job.folder)]
            if not suspects:
                raise MuseTalkError("worker processes die before they begin; run with one worker") from error
            tried.update({job.content: _alone(job) for job in suspects})


def _alone(job: Job) -> str:
    try:
        with _pool(1) as pool:
            return pool.submit(_run, job).result()
    except BrokenProcessPool:
        return _DIED


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Make a fresh process a worker: one thread each, and none that outlives the process that started it."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# The networks of this process, which every video would otherwise load anew.
_sources: dict[tuple[str, Path], LandmarkSource] = {}


def _run(job: Job) -> str:
    if is_prepared(job.folder):
        return ""  # by an earlier run
    key = job.settings.landmarks, job.models
    if key not in _sources:
        _sources[key] = open_landmarks(job.settings.landmarks, job.models)
    try:
        prepare_video(job.path, job.name, job.content, job.folder, job.settings, _sources[key])
    except InputError as error:
        return str(error)
    except OutputError:
        raise
    except Exception as error:  # whatever one video among thousands provokes is reported, not fatal
        return f"{type(error).__name__}: {error}"
    return ""
