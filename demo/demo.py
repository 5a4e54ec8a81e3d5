"""The bundled portrait says the bundled sentence: the whole pipeline on musetalk-mini, with no download.

    .venv/bin/python demo/demo.py

Writes build/demo/demo.mp4.
"""

from pathlib import Path

import musetalk
from musetalk.terminal import TerminalProgress

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
OUTPUT = ROOT / "build" / "demo" / "demo.mp4"


def main() -> None:
    models = musetalk.load_models("mini", device="cpu")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with TerminalProgress(quiet=False) as progress:
        report = musetalk.lipsync(
            models,
            HERE / "astronaut.png",
            HERE / "speech.wav",
            OUTPUT,
            overwrite=True,
            progress=progress,
        )
    print(f"Wrote {OUTPUT.relative_to(ROOT)}: {report.frames} frames at {report.fps} fps, with the voice.")
    print(
        "That was musetalk-mini, a small model trained on drawn and synthetic faces (docs/mini.md). For real footage:"
    )
    print("  .venv/bin/musetalk download --models models")
    print("  .venv/bin/musetalk lipsync --video talk.mp4 --audio voice.wav --output out.mp4 --models models")


if __name__ == "__main__":
    main()
