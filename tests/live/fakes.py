"""Stand-ins for the slow parts around a session: a clock that is turned by hand, an engine that answers at once."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import count
from types import SimpleNamespace

import numpy as np
import torch

from musetalk.errors import InputError, MuseTalkError
from musetalk.live.generator import EncodeJob, EncodeResult, FrameJob, FrameResult
from musetalk.live.session import Session
from musetalk.live.streaming import FeatureFrame

HEIGHT, WIDTH = 8, 6
SPOKEN = 200


async def settle(rounds: int = 20) -> None:
    """Let every task go on as far as it can."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class SimClock:
    """Time stands still until it is advanced."""

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.Future]] = []

    def now(self) -> float:
        return self.time

    async def sleep_until(self, moment: float) -> None:
        if moment <= self.time:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (moment, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Go on through every moment somebody waits for."""
        end = self.time + seconds
        await settle()
        while self._waiting and self._waiting[0][0] <= end + 1e-9:
            moment, _, future = heapq.heappop(self._waiting)
            self.time = max(self.time, moment)
            if not future.done():
                future.set_result(None)
            await settle()
        self.time = max(self.time, end)

    async def halt(self, seconds: float) -> None:
        """Time passes and nobody gets a turn, as when the process was stopped."""
        self.time += seconds
        await self.advance(0)


class Inline(Executor):
    """Runs work where it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class FakeAvatar:
    """Footage of ``length`` frames; a closed frame is ``[source, mark, 0]`` everywhere."""

    def __init__(self, length: int = 100, mark: int = 0, fps: Fraction = Fraction(25)) -> None:
        self.length, self.mark, self.fps = length, mark, fps
        self.frame_size = (WIDTH, HEIGHT)
        self.released = 0

    def __len__(self) -> int:
        return self.length

    def idle_frame(self, source: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), (source, self.mark, 0), np.uint8)

    def release(self) -> None:
        self.released += 1


class FakeStore:
    """Opens avatars and counts who holds one. The avatar ``cold`` is not there before ``thawed``; there is no
    ``missing``."""

    def __init__(self) -> None:
        self.opened: list[FakeAvatar] = []
        self.thawed = threading.Event()

    def open(self, name: str) -> FakeAvatar:
        if name == "missing":
            raise InputError("no such avatar")
        if name == "cold":
            self.thawed.wait(10)
        self.opened.append(FakeAvatar())
        return self.opened[-1]

    def close(self) -> None:
        pass

    @property
    def in_use(self) -> int:
        return len(self.opened) - sum(avatar.released for avatar in self.opened)


async def given_back(store: FakeStore, opened: int = 1) -> None:
    """Wait until so many were opened, and nobody holds the last one."""
    while len(store.opened) < opened or not store.opened[-1].released:
        await asyncio.sleep(0.001)


class FakeFeatures:
    """Frame i is there 132.5 + 40 ms after its beginning; its window is its own loudness, 0..1.

    At most ``hop`` frames are given at once.
    """

    def __init__(self, hop: int = 1000) -> None:
        self.sound = np.zeros(0, np.float32)  # of frames that are still to be made
        self.heard = self.made = 0
        self.ended = False
        self.hop = hop

    def feed(self, samples: np.ndarray) -> None:
        self.sound = np.concatenate([self.sound, samples])
        self.heard += len(samples)

    def finish(self) -> None:
        self.ended = True

    def skip_to(self, index: int) -> None:
        due = max(0, (self.heard - 2760) // 640 + 1)
        count = max(0, min(index, due) - self.made) // self.hop * self.hop
        self.made, self.sound = self.made + count, self.sound[640 * count :]

    def prepare(self):
        total = max(1, self.heard // 640) if self.ended else max(0, (self.heard - 2760) // 640 + 1)
        count = min(self.hop, total - self.made)
        if count <= 0:
            return None
        loud = [float(np.abs(self.sound[640 * i : 640 * (i + 1)]).max(initial=0)) for i in range(count)]
        first, self.made, self.sound = self.made, self.made + count, self.sound[640 * count :]
        return SimpleNamespace(mel=torch.tensor(loud), thinned=None, first=first)

    def accept(self, waiting, states: torch.Tensor) -> list[FeatureFrame]:
        return [FeatureFrame(waiting.first + i, value.repeat(50, 1), 0) for i, value in enumerate(states)]


class FakeEngine:
    """Answers what is submitted: at once, on ``release`` (``hold``, ``hold_frames``), with an error (``fail``,
    ``fail_encoding``), or by dropping (``drop``).

    A picture is ``[source, mark of the avatar, SPOKEN + 55 * loudness]`` everywhere.
    """

    def __init__(self) -> None:
        self.hold = self.hold_frames = self.fail = self.drop = self.fail_encoding = False
        self.sessions: set[str] = set()
        self.held: list[FrameJob | EncodeJob] = []
        self.frames = 0

    def register(self, session_id: str) -> None:
        self.sessions.add(session_id)

    def unregister(self, session_id: str) -> None:
        self.sessions.discard(session_id)

    def submit(self, jobs) -> None:
        for job in jobs:
            if self.hold or (self.hold_frames and isinstance(job, FrameJob)):
                self.held.append(job)
            else:
                self.answer(job)

    def release(self) -> None:
        held, self.held, self.hold, self.hold_frames = self.held, [], False, False
        for job in held:
            self.answer(job)

    def answer(self, job) -> None:
        if isinstance(job, EncodeJob):
            if self.fail_encoding:
                job.done(EncodeResult(job, error=MuseTalkError("the encoder is broken")))
            else:
                job.done(EncodeResult(job, None if job.cancelled() else job.mel))
        elif self.drop or job.cancelled():
            job.done(FrameResult(job))
        elif self.fail:
            job.done(FrameResult(job, error=MuseTalkError("the device is full")))
        else:
            self.frames += 1
            loud = SPOKEN + round(55 * float(job.window.max()))
            picture = np.full((HEIGHT, WIDTH, 3), (job.source, job.avatar.mark, loud), np.uint8)
            job.done(FrameResult(job, picture))


class SlowEngine(FakeEngine):
    """Needs ``seconds`` of the clock for each piece of sound that is encoded."""

    def __init__(self, clock: SimClock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.tasks: set[asyncio.Task] = set()

    def submit(self, jobs) -> None:
        for job in jobs:
            if isinstance(job, EncodeJob):
                task = asyncio.get_running_loop().create_task(self._later(job))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            else:
                self.answer(job)

    async def _later(self, job: EncodeJob) -> None:
        await self.clock.sleep_until(self.clock.now() + self.seconds)
        self.answer(job)


def tone(seconds: float, rate: int = 16000, level: float = 1.0) -> bytes:
    """A sound whose every sample is ``level``."""
    return np.full(round(seconds * rate), round(level * 32767), "<i2").tobytes()


@asynccontextmanager
async def running(avatar: FakeAvatar | None = None, engine: FakeEngine | None = None, **options):
    """A session on a clock turned by hand, begun: gives session, clock, engine."""
    clock, engine = options.pop("clock", None) or SimClock(), engine or FakeEngine()
    make: Callable = options.pop("make_features", FakeFeatures)
    session = Session("s", engine, avatar or FakeAvatar(), make, clock=clock, executor=Inline(), **options)
    session.start()
    try:
        yield session, clock, engine
    finally:
        await session.close()


async def collect(session: Session, clock: SimClock, seconds: float):
    """What a viewer gets in the next ``seconds``: pictures, packets."""
    pictures, packets = [], []
    async with session.media(video_kept=1000) as viewer:

        async def read() -> None:
            async for item in viewer:
                (pictures if hasattr(item, "image") else packets).append(item)

        task = asyncio.create_task(read())
        # A frame that is due at the very end belongs to what follows.
        await clock.advance(seconds - 1e-6)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return pictures, packets


def mouths(pictures) -> list[int]:
    return [int(item.image[0, 0, 2]) for item in pictures]


def sources(pictures) -> list[int]:
    return [int(item.image[0, 0, 0]) for item in pictures]


def pcm_of(packets) -> np.ndarray:
    return np.frombuffer(b"".join(item.pcm for item in packets), "<i2")


def ramp(seconds: float, rate: int) -> bytes:
    """Every sample differs from its neighbours, so that a lost or doubled one is found."""
    return (np.arange(round(seconds * rate)) % 30000 + 1).astype("<i2").tobytes()
