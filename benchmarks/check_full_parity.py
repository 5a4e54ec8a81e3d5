"""Parity of the full-size networks with the original's code, on full-size random weights; not part of the test suite.

    python benchmarks/check_full_parity.py ../shared/goldens/sun_full.npz

Needs the golden file (not in this repository) and makes 3.8 GB of weights once, in build/bench/models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import musetalk
from musetalk.inpainting import predict_latents

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "build" / "bench" / "models"


def show(name: str, found: np.ndarray, expected: np.ndarray, limit: float) -> bool:
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    print(f"{name:<28} max difference {difference:.3g} (limit {limit:g})")
    return difference <= limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path)
    args = parser.parse_args()
    if not (MODELS / "musetalkV15").is_dir():
        maker = ROOT / "tests" / "random_models.py"
        subprocess.run([sys.executable, str(maker), "--out", str(MODELS), "--full"], check=True)
    models = musetalk.load_models(MODELS, device="cpu", dtype="fp32")
    with np.load(args.golden) as golden:
        frames = np.ascontiguousarray(golden["frames"][..., ::-1])
        avatar = musetalk.prepare_avatar(models, frames, boxes=golden["bbox"])
        unet_input, tokens = torch.from_numpy(golden["unet_input"]), torch.from_numpy(golden["whisper_chunks"])
        predicted = predict_latents(models, unet_input, tokens).numpy()
        faces = musetalk.decode_faces(models, torch.from_numpy(golden["pred_latents"]))
        passed = [
            show("latents without sampling", avatar.latents.numpy(), golden["latents_mode"], 1e-4),
            show("predicted latents", predicted, golden["pred_latents"], 1e-4),
            show("decoded faces, of 255", faces[..., ::-1], golden["decoded_uint8"], 1),
        ]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
