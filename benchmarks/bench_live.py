"""How soon live avatars answer a voice: real sessions on one worker, without network, a voice pushed in real time.

    python benchmarks/bench_live.py                                 # musetalk-mini on this machine, 1, 4 and 8 sessions
    python benchmarks/bench_live.py --models models --device cuda   # the full size

Each session gets the voice as an agent sends it, in 20 ms packets at the moment they are spoken, and has one viewer.
Prints a Markdown table. A frame's last needed sample is the one its hop waits for; it counts as there when its packet
was due, even where the process was late to take it. Sessions begin one after another within the first second.
Last, one session that speaks becomes another avatar, warm, several times: how long that takes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import musetalk
from musetalk.audio.source import AudioSource
from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.live.generator import FrameJob, FrameResult, Job, ModelGenerator
from musetalk.live.heap import keep_freed_memory
from musetalk.live.live_avatar import LiveAvatar
from musetalk.live.session import Session
from musetalk.live.streaming import EncoderInput, FeatureFrame, FeatureStream, silence_window
from musetalk.live.timeline import FPS, VideoItem
from musetalk.live.tuning import apart, live_dtype, tune
from musetalk.live.worker import Worker
from musetalk.models.load import resolve_device

ROOT = Path(__file__).resolve().parents[1]
PACKET = SAMPLE_RATE // 50
STAGGER_S = 1.0
SETTLE_S = 1.0
SWITCHES = 8


@dataclass
class Watch:
    """What one session's frames are measured by. All moments in ``time.monotonic`` seconds.

    begun: the first sample's. needed: samples of each frame, by its window. ready: delays of frames, in seconds, from
    their last needed sample to the picture in the event loop. first_ready, first_shown: after the first sample.
    """

    begun: float = 0.0
    ended: float = 0.0
    needed: dict[int, tuple[torch.Tensor, int]] = field(default_factory=dict)
    ready: list[float] = field(default_factory=list)
    first_ready: float = float("nan")
    first_shown: float = float("nan")
    shown: int = 0

    def arrived(self, samples: int) -> float:
        """When the last of that many samples was due to be pushed."""
        return min(self.begun + -(-samples // PACKET) / 50, self.ended or float("inf"))

    def is_ready(self, window: torch.Tensor) -> None:
        now = time.monotonic()
        if not self.ready:
            self.first_ready = now - self.begun
        self.ready.append(now - self.arrived(self.needed.pop(id(window))[1]))


class WatchedFeatures(FeatureStream):
    """Notes what each frame had to wait for."""

    def __init__(self, watch: Watch, models: musetalk.Models, hop: int, thinned: bool) -> None:
        super().__init__(models, FPS, hop_frames=hop, thinned=thinned)
        self._watch = watch

    def accept(self, encoder_input: EncoderInput, states: torch.Tensor) -> list[FeatureFrame]:
        frames = super().accept(encoder_input, states)
        self._watch.needed.update({id(frame.window): (frame.window, frame.ready_after) for frame in frames})
        return frames


class WatchedWorker:
    """A session's way to the worker, on which its pictures are noted when the session has them."""

    def __init__(self, worker: Worker, watch: Watch) -> None:
        self._worker = worker
        self._watch = watch
        self._loop = asyncio.get_running_loop()

    def register(self, session_id: str) -> None:
        self._worker.register(session_id)

    def unregister(self, session_id: str) -> None:
        self._worker.unregister(session_id)

    def submit(self, jobs: list[Job]) -> None:
        self._worker.submit([self._noted(job) if isinstance(job, FrameJob) else job for job in jobs])

    def _noted(self, job: FrameJob) -> FrameJob:
        def done(result: FrameResult) -> None:
            job.done(result)
            if result.frame is not None:
                self._loop.call_soon_threadsafe(self._watch.is_ready, job.window)

        return replace(job, done=done)


@dataclass(frozen=True)
class Row:
    """One line of the table. Delays in seconds."""

    sessions: int
    delays: np.ndarray
    first_ready: float
    first_shown: float
    frames: int
    lost: int
    dropped: int
    skipped: int
    fps: float
    cores: float
    hop: int

    HEADER = (
        "| sessions | hop | sample to frame p50 | p95 | max | first frame ready | on screen | frames | "
        "without picture | dropped | skipped | fps | CPU cores |"
    )

    def __str__(self) -> str:
        p50, p95, worst = (f"{1000 * np.quantile(self.delays, q):.0f} ms" for q in (0.5, 0.95, 1.0))
        first = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in (self.first_ready, self.first_shown))
        return (
            f"| {self.sessions} | {self.hop} | {p50} | {p95} | {worst} | {first} | {self.frames} | {self.lost} | "
            f"{self.dropped} | {self.skipped} | {self.fps:.1f} | {self.cores:.2f} |"
        )


async def speak(session: Session, watch: Watch, voice: np.ndarray) -> None:
    """Push the voice as it is spoken: each packet when its last sample is."""
    pcm = (voice * 32767).round().clip(-32768, 32767).astype("<i2")
    watch.begun = time.monotonic()
    for packet, start in enumerate(range(0, len(pcm), PACKET), 1):
        await asyncio.sleep(max(0.0, watch.begun + packet / 50 - time.monotonic()))
        await session.push_pcm(pcm[start : start + PACKET].tobytes(), SAMPLE_RATE)
    watch.ended = time.monotonic()
    session.end_of_segment()


async def look(session: Session, watch: Watch, over: asyncio.Event) -> None:
    """A viewer that takes what comes."""
    async with session.media() as viewer:
        async for item in viewer:
            if isinstance(item, VideoItem) and item.speaking:
                if not watch.shown:
                    watch.first_shown = time.monotonic() - watch.begun
                watch.shown += 1
            if over.is_set():
                return


async def converse(
    number: int,
    worker: Worker,
    avatar: LiveAvatar,
    make: Callable[[Watch], FeatureStream],
    voice: np.ndarray,
    wait: float,
) -> tuple[Watch, Session]:
    watch = Watch()
    session = Session(f"bench-{number}", WatchedWorker(worker, watch), avatar, lambda: make(watch))
    session.start()
    over = asyncio.Event()
    session.listen(lambda event: over.set() if event.kind == "ended" else None)
    viewing = asyncio.create_task(look(session, watch, over))
    await asyncio.sleep(SETTLE_S + wait)
    await speak(session, watch, voice)
    await viewing
    await session.close()
    return watch, session


async def measure(
    count: int, models: musetalk.Models, avatar: LiveAvatar, hop: int, thinned: bool, voice: np.ndarray
) -> Row:
    def make(watch: Watch) -> FeatureStream:
        return WatchedFeatures(watch, models, hop, thinned)

    with Worker(ModelGenerator(models), count) as worker:
        begin, cpu = time.monotonic(), time.process_time()
        talks = [converse(i, worker, avatar, make, voice, i * STAGGER_S / count) for i in range(count)]
        done = await asyncio.gather(*talks)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
        dropped = worker.dropped
    watches, sessions = [watch for watch, _ in done], [session for _, session in done]
    spoken = len(voice) / SAMPLE_RATE
    return Row(
        count,
        np.concatenate([watch.ready for watch in watches]),
        float(np.median([watch.first_ready for watch in watches])),
        float(np.median([watch.first_shown for watch in watches])),
        sum(session.lips.frames for session in sessions),
        sum(session.lips.lost for session in sessions),
        dropped,
        sum(session.skipped for session in sessions),
        float(np.mean([watch.shown for watch in watches])) / spoken,
        cpu / wall,
        hop,
    )


async def switch(models: musetalk.Models, avatars: list[LiveAvatar], hop: int, thinned: bool, voice: np.ndarray) -> str:
    """Become each of the avatars in turn: how long until the first picture of it, and until its lips move."""

    def make() -> FeatureStream:
        return FeatureStream(models, FPS, hop_frames=hop, thinned=thinned)

    shown: list[float] = []
    spoken: list[float] = []
    with Worker(ModelGenerator(models), 1) as worker:
        session = Session("bench-switch", worker, avatars[0], make)
        session.start()
        async with session.media() as viewer:
            speaking = asyncio.create_task(speak(session, Watch(), voice))
            await asyncio.sleep(2 * SETTLE_S)
            for number in range(1, SWITCHES + 1):
                began = time.monotonic()
                await session.switch_avatar(avatars[number % len(avatars)])
                shown.append(time.monotonic() - began)
                first = session.now
                async for item in viewer:
                    if isinstance(item, VideoItem) and item.pts_frames >= first and item.speaking:
                        break
                spoken.append(time.monotonic() - began)
            speaking.cancel()
        await session.close()
    first, lips = (f"{1000 * max(times):.0f} ms" for times in (shown, spoken))
    return f"{SWITCHES} switches to a warm avatar in mid-speech: on screen within {first}, its lips within {lips}"


def read_voice(path: Path, seconds: float) -> np.ndarray:
    """A recording over and over, float32 ``[n]`` at 16 kHz."""
    source = AudioSource.open(path)
    samples = np.concatenate(list(source.blocks()), axis=1).mean(axis=0)
    positions = np.arange(0, len(samples) * SAMPLE_RATE // source.sample_rate) * (source.sample_rate / SAMPLE_RATE)
    once = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    return np.resize(once, round(seconds * SAMPLE_RATE))


def make_avatar(models: musetalk.Models, size: int, *, mirrored: bool = False) -> LiveAvatar:
    with Image.open(ROOT / "demo" / "astronaut.png") as image:
        portrait = np.asarray(image.convert("RGB").resize((size, size)))
    if mirrored:
        portrait = np.ascontiguousarray(portrait[:, ::-1])
    return LiveAvatar(musetalk.prepare_avatar(models, portrait[None]))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mini", help="models folder (default: the included musetalk-mini)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="default: what `musetalk live` takes")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=30.0, help="of the voice, one utterance (default: 30)")
    parser.add_argument("--voice", type=Path, default=ROOT / "demo" / "speech.wav")
    parser.add_argument("--size", type=int, default=512, help="width and height of the picture (default: 512)")
    parser.add_argument("--hop", type=int, choices=(1, 2, 4), help="frames per hop (default: what the machine can do)")
    parser.add_argument("--threads", type=int, help="of torch (default: its own choice)")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()
    device = resolve_device(args.device)
    models = musetalk.load_models(args.models, device=device, dtype=args.dtype or live_dtype(device))
    tuning = tune(models)
    voice = read_voice(args.voice, args.seconds)
    avatar, other = (apart(lambda m=m: make_avatar(models, args.size, mirrored=m)) for m in (False, True))
    with Worker(ModelGenerator(models), 1) as worker:
        silence = apart(lambda: silence_window(models))
        avatar.warm(worker, silence)
        other.warm(worker, silence)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    precision = str(models.dtype).removeprefix("torch.")
    print(f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads, {precision}")
    print(
        f"one frame {1000 * tuning.frame_s:.1f} ms, one hop's sound {1000 * tuning.encode_s:.1f} ms, "
        f"{'thinned' if tuning.thinned else 'whole'}; {args.seconds:g} s of voice in one utterance\n"
    )
    print(f"{Row.HEADER}\n|{' ---: |' * Row.HEADER.count('| ')}")
    for count in args.sessions:
        hop = args.hop or tuning.hop_frames(count, FPS)
        print(asyncio.run(measure(count, models, avatar, hop, tuning.thinned, voice)), flush=True)
    print(f"\n{asyncio.run(switch(models, [avatar, other], tuning.hop_frames(1, FPS), tuning.thinned, voice))}")


if __name__ == "__main__":
    main()
