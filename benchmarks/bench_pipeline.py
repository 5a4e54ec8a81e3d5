"""Speed of the per-frame stages, against the same stages written as the original runs them.

    python benchmarks/bench_pipeline.py                                 # this machine's best, full-size random weights
    python benchmarks/bench_pipeline.py --device cpu --dtype bf16 --compare
    python benchmarks/bench_pipeline.py --models models --size 1920x1080

Prints milliseconds per frame (median of the rounds) and frames per second; with --compare also the original's way on
the same device in fp32, the ratio, and the PSNR of the decoded faces against fp32.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import upstream
from PIL import Image

import musetalk
from musetalk.audio.source import AudioSource
from musetalk.blend import paste_face
from musetalk.face.masks import Box
from musetalk.inpainting import predict_latents
from musetalk.latents import decode_batch

ROOT = Path(__file__).resolve().parents[1]
RANDOM_MODELS = ROOT / "build" / "bench" / "models"


@dataclass(frozen=True)
class Work:
    """One batch: latents ``[B, 8, 32, 32]``, audio windows ``[B, 50, 384]``, a frame and its face."""

    avatar: musetalk.Avatar
    latents: torch.Tensor
    windows: torch.Tensor
    frame: np.ndarray
    box: Box


def make_work(models: musetalk.Models, width: int, height: int, batch: int) -> Work:
    """The bundled portrait, enlarged so that its face is about a third of the frame's height, and the bundled voice."""
    side = round(height * 1.4)
    with Image.open(ROOT / "demo" / "astronaut.png") as image:
        portrait = image.convert("RGB").resize((side, side))
    picture = Image.new("RGB", (width, height))
    picture.paste(portrait, (width // 2 - round(side * 0.44), 0))
    avatar = musetalk.prepare_avatar(models, np.asarray(picture)[None])
    sound = AudioSource.open(ROOT / "demo" / "speech.wav")
    waveform = np.concatenate(list(sound.blocks()), axis=1)
    windows = musetalk.audio_features(models, waveform, sound.sample_rate)[20 : 20 + batch]
    return Work(avatar, avatar.latents.expand(batch, -1, -1, -1), windows, avatar.frames[0], avatar.masks[0].box)


def ours(models: musetalk.Models, work: Work, timed: Callable[[str, Callable[[], Any]], Any]) -> np.ndarray:
    predicted = timed("UNet", lambda: predict_latents(models, work.latents, work.windows))
    faces = timed("VAE decode", lambda: decode_batch(models, predicted))

    def blend() -> None:
        for face in faces:
            paste_face(work.frame.copy(), face, work.avatar.masks[0])

    timed("blend", blend)
    return faces


def theirs(models: musetalk.Models, work: Work, timed: Callable[[str, Callable[[], Any]], Any]) -> np.ndarray:
    latents, windows = work.latents.to(models.device), work.windows.to(models.device)
    predicted = timed("UNet", lambda: upstream.predict(models, latents, windows))
    faces = timed("VAE decode", lambda: upstream.decode(models, predicted))
    profile = work.avatar.profile
    timed("blend", lambda: [upstream.blend(models, work.frame, face, work.box, profile) for face in faces])
    return faces


class Stopwatch:
    """Milliseconds per frame of each stage, round by round."""

    def __init__(self, device: torch.device, batch: int) -> None:
        self.rounds: dict[str, list[float]] = {}
        self._device = device
        self._batch = batch

    def __call__(self, stage: str, run: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = run()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.rounds.setdefault(stage, []).append(1000 * (time.perf_counter() - begin) / self._batch)
        return result

    def medians(self) -> dict[str, float]:
        stages = {stage: median(times) for stage, times in self.rounds.items()}
        return {**stages, "total": sum(stages.values())}


def psnr(faces: np.ndarray, reference: np.ndarray) -> float:
    error = ((faces.astype(np.float64) - reference) ** 2).mean()
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="models folder (default: full-size random weights, made once)")
    parser.add_argument("--device")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--compare", action="store_true", help="also run the original's way, in fp32")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    folder = args.models or RANDOM_MODELS
    if args.models is None and not (folder / "musetalkV15").is_dir():
        maker = ROOT / "tests" / "random_models.py"
        subprocess.run([sys.executable, str(maker), "--out", str(folder), "--full"], check=True)
    models = musetalk.load_models(folder, device=args.device, dtype=args.dtype)
    width, height = (int(side) for side in args.size.split("x"))
    work = make_work(models, width, height, args.batch_size)
    contenders: dict[str, tuple[Any, musetalk.Models, Stopwatch]] = {}
    if args.compare:
        reference = upstream.as_upstream(musetalk.load_models(folder, device=models.device, dtype="fp32"))
        contenders["original's way"] = (theirs, reference, Stopwatch(models.device, args.batch_size))
    contenders["ours"] = (ours, models, Stopwatch(models.device, args.batch_size))
    faces = {name: run(network, work, lambda stage, call: call()) for name, (run, network, _) in contenders.items()}
    for _ in range(args.rounds):  # interleaved, so that a busy moment hits both
        for run, network, stopwatch in contenders.values():
            run(network, work, stopwatch)
    name = torch.cuda.get_device_name() if models.device.type == "cuda" else platform.processor() or platform.machine()
    precision = str(models.dtype).removeprefix("torch.")
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{args.size}, batch {args.batch_size}, {precision}, {args.rounds} rounds; ms per frame")
    results = {name: stopwatch.medians() for name, (_, _, stopwatch) in contenders.items()}
    print(f"{'stage':<12}" + "".join(f"{name:>16}" for name in results) + ("           ratio" if args.compare else ""))
    for stage, own in results["ours"].items():
        row = f"{stage:<12}" + "".join(f"{result[stage]:>16.2f}" for result in results.values())
        print(row + (f"{results[next(iter(results))][stage] / own:>15.1f}x" if args.compare else ""))
    for name, result in results.items():
        print(f"{name}: {1000 / result['total']:.2f} frames per second")
    if args.compare:
        print(f"decoded faces against fp32: PSNR {psnr(faces['ours'], faces[next(iter(faces))]):.1f} dB")


if __name__ == "__main__":
    main()
