"""Peak resident memory of a long clip against a short one, through the whole command, with tiny random weights.

    python benchmarks/bench_memory.py --seconds 10 600 --size 1920x1080

Each length runs in a process of its own; the footage is as long as the sound unless --footage says otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from musetalk.audio.source import AudioSource
from musetalk.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench" / "memory"


def make_clip(seconds: int, width: int, height: int) -> Path:
    """A portrait that drifts over a 1080p background, 25 fps, with noise for a voice."""
    path = BUILD / f"{seconds}s_{width}x{height}.mp4"
    if path.exists():
        return path
    face = np.asarray(Image.open(ROOT / "demo" / "astronaut.png").convert("RGB").resize((height // 2, height // 2)))
    ramp = np.linspace(40, 200, width).astype(np.uint8)
    background = np.broadcast_to(ramp[None, :, None], (height, width, 3))
    samples = np.random.default_rng(0).normal(0, 0.1, 16000 * seconds).astype(np.float32)
    part = path.with_name(f"part_{path.name}")
    with VideoWriter(
        part,
        width,
        height,
        Fraction(25),
        audio=AudioSource.from_array(samples, 16000),
        preset="ultrafast",
        overwrite=True,
    ) as writer:
        for i in range(25 * seconds):
            frame = background.copy()
            left = (width - height // 2) // 2 + int(60 * np.sin(i / 25))
            frame[height // 4 : height // 4 + height // 2, left : left + height // 2] = face
            writer.write(frame[None])
    part.rename(path)
    return path


def peak_memory(command: list[str]) -> tuple[float, float]:
    """Peak resident MB and seconds of a process, sampled every 50 ms."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    peak = 0
    watched = psutil.Process(process.pid)

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        raise SystemExit(f"the job failed with exit code {code}")
    return peak / 2**20, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 600], help="lengths of the sound")
    parser.add_argument("--footage", type=int, help="length of the footage; shorter than the sound: it ping-pongs")
    parser.add_argument("--size", default="1920x1080")
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    models = BUILD / "models"
    BUILD.mkdir(parents=True, exist_ok=True)
    if not models.exists():
        maker = [sys.executable, str(ROOT / "tests" / "random_models.py"), "--out", str(models), "--no-face-parser"]
        subprocess.run(maker, check=True)
    for seconds in args.seconds:
        sound = make_clip(seconds, width, height)
        footage = make_clip(args.footage, width, height) if args.footage else sound
        output = BUILD / "out.mp4"
        arguments = ["--video", footage, "--audio", sound, "--output", output, "--models", models, "--overwrite"]
        options = ["--device", "cpu", "--preset", "ultrafast", "--quiet"]
        command = [sys.executable, "-m", "musetalk", "lipsync", *map(str, arguments), *options]
        peak, elapsed = peak_memory(command)
        print(f"{seconds:>5} s of {args.size}: peak {peak:.0f} MB, {elapsed:.0f} s", flush=True)


if __name__ == "__main__":
    main()
