"""Which jobs a worker computes next. Pure bookkeeping: no thread, no clock of its own, no networks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

from .generator import BATCH_SIZES, EncodeJob, FrameJob, Job

_SMOOTHING = 0.3
_FORGETTING = 0.9
_CLEAN_BATCHES = 200
# An urgent frame that comes while others are computed waits no longer than it is shown.
_BACKGROUND_SECONDS = 0.04
# Batches of urgent frames after which one of the others is due: it goes on, if slowly, on a machine that is full.
_BACKGROUND_TURN = 25

_J = TypeVar("_J", FrameJob, EncodeJob)


class Pace:
    """How long a batch of each size takes, in seconds, learnt from those that were run."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    @property
    def is_known(self) -> bool:
        return bool(self._seconds)

    def note(self, size: int, seconds: float) -> None:
        before = self._seconds.get(size, seconds)
        self._seconds[size] = before + _SMOOTHING * (seconds - before)

    def seconds(self, size: int) -> float:
        """Expected for a batch, in proportion where that size was never run; 0 at first."""
        known = [other for other in self._seconds if other <= size] or list(self._seconds)
        if not known:
            return 0.0
        nearest = max(known) if min(known) <= size else min(known)
        return self._seconds[nearest] * size / nearest

    def forget_a_little(self) -> None:
        """Believe in a tenth less: work refused because of an outlier would never correct it otherwise."""
        for size in self._seconds:
            self._seconds[size] *= _FORGETTING


class BatchLimit:
    """How many at once: half as many after the device was full, twice as many again after long enough without that."""

    def __init__(self, most: int) -> None:
        self.now = self._most = most
        self._clean = 0

    def was_full(self, count: int) -> None:
        """``count`` at once did not fit."""
        self.now, self._clean = max(1, min(self.now, count // 2)), 0

    def fitted(self) -> None:
        self._clean += 1
        if self._clean >= _CLEAN_BATCHES and self.now < self._most:
            self.now, self._clean = min(2 * self.now, self._most), 0


@dataclass
class _Lane:
    """One session's waiting jobs.

    turn: when it was last served, in batches and places, for taking turns. encoding: a sound of it is being encoded.
    """

    background: bool
    encoding: bool = False
    frames: list[FrameJob] = field(default_factory=list)
    encodes: list[EncodeJob] = field(default_factory=list)
    turn: int = 0

    def jobs(self) -> Iterator[Job]:
        yield from self.encodes
        yield from self.frames


class Lanes:
    """The waiting jobs of all sessions.

    While all can be in time, the earliest deadline goes first. When they cannot, sessions take turns, so that one with
    tight deadlines does not starve the others. Jobs without a deadline wait until there are no others, or for one
    batch in a while.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._turn = 0
        self._urgent_batches = 0

    def __contains__(self, session: str) -> bool:
        return session in self._lanes

    @property
    def has_work(self) -> bool:
        """Whether there is anything that could be computed now."""
        return any(lane.frames or (lane.encodes and not lane.encoding) for lane in self._lanes.values())

    def open(self, session: str, *, background: bool = False) -> None:
        self._lanes[session] = _Lane(background, turn=self._turn)

    def close(self, session: str) -> list[Job]:
        """Forget a session. Returns the jobs it still had."""
        lane = self._lanes.pop(session, None)
        return [] if lane is None else list(lane.jobs())

    def sessions(self) -> list[str]:
        """Those that are not in the background."""
        return [session for session, lane in self._lanes.items() if not lane.background]

    def jobs(self) -> Iterator[Job]:
        for lane in self._lanes.values():
            yield from lane.jobs()

    def waiting(self, session: str) -> int:
        lane = self._lanes[session]
        return len(lane.frames) + len(lane.encodes)

    def add(self, job: Job) -> None:
        lane = self._lanes[job.session]
        if isinstance(job, EncodeJob):
            lane.encodes.append(job)
        else:
            lane.frames.append(job)

    def discard(self, jobs: Collection[Job]) -> list[Job]:
        """Take jobs out, wherever they are. Returns those that were still there."""
        found = [job for job in self.jobs() if job in jobs]
        for lane in self._lanes.values():
            lane.frames = [job for job in lane.frames if job not in jobs]
            lane.encodes = [job for job in lane.encodes if job not in jobs]
        return found

    def take_encodes(self, most: int) -> list[EncodeJob]:
        """The next sounds to encode, one per session at most: each needs the one before it, until it is ``encoded``."""
        ready = [lane.encodes[0] for lane in self._lanes.values() if lane.encodes and not lane.encoding]
        jobs = self._taken(sorted(ready, key=_deadline)[:most])
        for job in jobs:
            self._lanes[job.session].encoding = True
        return jobs

    def encoded(self, jobs: Sequence[EncodeJob]) -> None:
        """The sounds that were taken have been answered."""
        for job in jobs:
            lane = self._lanes.get(job.session)
            if lane is not None:
                lane.encoding = False

    def frames(self) -> Iterator[FrameJob]:
        for lane in self._lanes.values():
            yield from lane.frames

    def take_frames(self, pace: Pace, now: float, most: int, seconds: float, streams: int = 1) -> list[FrameJob]:
        """The next batch of frames.

        most: at once. seconds: a batch should not take longer, for who comes meanwhile. streams: batches that are
        computed at the same time.
        """
        jobs = sorted((job for lane in self._lanes.values() for job in lane.frames), key=_deadline)
        urgent = [job for job in jobs if job.deadline < inf]
        if not urgent or (len(urgent) < len(jobs) and self._urgent_batches >= _BACKGROUND_TURN):
            self._urgent_batches = 0
            jobs = jobs[len(urgent) :]
            return self._taken(jobs[: _largest(pace, min(most, len(jobs)), _BACKGROUND_SECONDS)])
        self._urgent_batches += 1
        sizes = [size for size in BATCH_SIZES if size <= min(most, len(urgent))] or [1]
        best = min(pace.seconds(size) / size for size in sizes)
        if all(now + (place // streams + 1) * best <= job.deadline for place, job in enumerate(urgent)):
            return self._taken(urgent[: _largest(pace, sizes[0], min(seconds, urgent[0].deadline - now))])
        affordable = [size for size in sizes if pace.seconds(size) <= seconds] or [1]
        batches = [self._in_turns(size, now + pace.seconds(size)) for size in affordable]
        # As many frames in time per second as can be; one frame too late anyway where nothing can be in time.
        return self._taken(
            max(batches, key=lambda batch: len(batch) / max(pace.seconds(len(batch)), 1e-9)) or urgent[:1]
        )

    def _in_turns(self, count: int, not_before: float) -> list[FrameJob]:
        """At most ``count`` frames due at ``not_before`` or later, session after session, longest unserved first."""
        queues = {
            session: sorted((job for job in lane.frames if not_before <= job.deadline < inf), key=_deadline)
            for session, lane in self._lanes.items()
        }
        turns = {session: lane.turn for session, lane in self._lanes.items()}
        order: list[FrameJob] = []
        while len(order) < count and any(queues.values()):
            session = min((s for s in queues if queues[s]), key=lambda s: (turns[s], queues[s][0].deadline))
            order.append(queues[session].pop(0))
            turns[session] = self._turn + len(order)
        return order

    def _taken(self, jobs: Sequence[_J]) -> list[_J]:
        for job in jobs:
            self._turn += 1
            lane = self._lanes[job.session]
            if isinstance(job, EncodeJob):
                lane.encodes.remove(job)
            else:
                lane.frames.remove(job)
                lane.turn = self._turn
        return list(jobs)


def too_late(frames: Collection[FrameJob], pace: Pace, now: float) -> set[FrameJob]:
    """Those of the waiting frames that cannot be in time, not even alone.

    Where that leaves no frame to compute, the pace is believed a little less: nothing else would correct it.
    """
    soonest = now + pace.seconds(1)
    late = {job for job in frames if job.deadline < soonest}
    if late and len(late) == len(frames):
        pace.forget_a_little()
    return late


def _largest(pace: Pace, most: int, seconds: float) -> int:
    """The largest batch of at most ``most`` expected to take ``seconds`` at most; 1 where none is, or none is known."""
    if not pace.is_known:
        return 1
    return next((size for size in BATCH_SIZES if size <= most and pace.seconds(size) <= seconds), 1)


def _deadline(job: Job) -> float:
    return job.deadline
