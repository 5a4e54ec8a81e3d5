"""`make demo`: a bundled portrait and a bundled voice through the whole pipeline, on weights made on the spot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import musetalk
from musetalk.terminal import TerminalProgress

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "demo"


def main() -> None:
    models_dir = BUILD / "models"
    print("Making small RANDOM weights: the mouth of this demo will be noise, not speech.", flush=True)
    maker = ROOT / "tests" / "random_models.py"
    subprocess.run([sys.executable, str(maker), "--out", str(models_dir), "--no-face-parser"], check=True)
    models = musetalk.load_models(models_dir, device="cpu")
    output = BUILD / "demo.mp4"
    with TerminalProgress(quiet=False) as progress:
        report = musetalk.lipsync(
            models,
            HERE / "astronaut.png",
            HERE / "speech.wav",
            output,
            overwrite=True,
            progress=progress,
        )
    print(f"Wrote {output.relative_to(ROOT)}: {report.frames} frames at {report.fps} fps, with the voice.")
    print("The weights were RANDOM: every stage ran, the mouth shows noise. For a talking face get the real weights:")
    print("  .venv/bin/musetalk download --models models")
    print("  .venv/bin/musetalk lipsync --video talk.mp4 --audio voice.wav --output out.mp4 --models models")


if __name__ == "__main__":
    main()
