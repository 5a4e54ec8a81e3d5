"""How near the mouths of a live avatar are to those of offline lip sync, and both to the truth.

    python benchmarks/live_likeness.py                  # musetalk-mini; needs espeak-ng
    python benchmarks/live_likeness.py --models models --device cuda

A synthetic clip says a text of about half a minute. Its sound is pushed in 20 ms packets, and mouth openings are
measured as `musetalk evaluate --truth` measures them. Prints a Markdown table: Pearson's r of the openings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import musetalk
from musetalk.audio.waveform import SAMPLE_RATE
from musetalk.evaluation.correlation import pearson
from musetalk.inpainting import predict_latents
from musetalk.latents import decode_batch
from musetalk.live.streaming import FeatureStream
from musetalk.live.tuning import live_dtype
from musetalk.models.load import resolve_device
from musetalk.training.synthetic.clips import Clip, make_clip
from musetalk.training.synthetic.espeak import Voice, speak
from musetalk.training.synthetic.opening import OpeningProbe

TEXT = (
    "The harbour was quiet before the boats came home. My brother kept a map of the whole bay on his wall, and every "
    "buoy had a number. We packed bread, plums and a pot of warm soup, and walked along the pier. Above us a plane "
    "moved from cloud to cloud. People were waiting beside the old pump house, some with blankets, most without. "
    "When the bell rang, everybody looked up at once, and nobody spoke for a moment. Then the first boat came in."
)
PACKET = SAMPLE_RATE // 50


def streamed(models: musetalk.Models, sound: np.ndarray, hop: int, thinned: bool) -> torch.Tensor:
    stream = FeatureStream(models, hop_frames=hop, thinned=thinned)
    packets = [sound[start : start + PACKET] for start in range(0, len(sound), PACKET)]
    frames = [frame for packet in packets for frame in stream.push(packet)] + stream.flush()
    return torch.stack([frame.window for frame in frames])


def openings(models: musetalk.Models, avatar: musetalk.Avatar, clip: Clip, windows: torch.Tensor) -> np.ndarray:
    """Of the generated faces, in pixels of the 256 crop, float64 ``[N]``."""
    faces = [
        face
        for part in windows.split(8)
        for face in decode_batch(
            models, predict_latents(models, avatar.latents[:1].expand(len(part), -1, -1, -1), part)
        )
    ]
    return OpeningProbe(clip.still).measure(faces, np.zeros(len(faces))).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mini", help="models folder (default: the included musetalk-mini)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="default: what `musetalk live` takes")
    parser.add_argument("--face", default="astronaut")
    parser.add_argument("--voice", default="en-us", help="of espeak-ng (default: %(default)s)")
    parser.add_argument("--text", type=Path, help="file with another text")
    args = parser.parse_args()
    device = resolve_device(args.device)
    models = musetalk.load_models(args.models, device=device, dtype=args.dtype or live_dtype(device))
    speech = speak(args.text.read_text(encoding="utf-8") if args.text else TEXT, Voice(args.voice))
    clip = make_clip(args.face, speech)
    avatar = musetalk.prepare_avatar(models, clip.scene.with_face(next(clip.resting()).image)[None])
    offline = musetalk.audio_features(models, speech.samples, SAMPLE_RATE)
    count = min(len(offline), len(clip))
    spoken = clip.truth().spoken
    truth = clip.truth().openings.astype(np.float64)
    reference = openings(models, avatar, clip, offline[:count])
    spread = (offline - offline.mean(dim=0)).pow(2).mean().sqrt()
    print(f"{speech.duration:.1f} s, {count} frames, {str(models.dtype).removeprefix('torch.')}\n")
    print("| windows | hop | apart | r with offline | difference | r with the truth |\n| --- " + "| ---: " * 5 + "|")
    print(f"| offline | | | | | {pearson(reference[spoken], truth[spoken][: count - spoken.start]):.3f} |", flush=True)
    for thinned in (False, True):
        for hop in (1, 2, 4) if thinned else (2,):
            windows = streamed(models, speech.samples, hop, thinned)[:count]
            apart = (windows - offline[:count]).pow(2).mean().sqrt() / spread
            name = "thinned" if thinned else "whole"
            live = openings(models, avatar, clip, windows)[spoken]
            print(
                f"| {name} | {hop} | {apart:.3f} | {pearson(live, reference[spoken]):.3f} | "
                f"{np.sqrt(((live - reference[spoken]) ** 2).mean()):.2f} px | "
                f"{pearson(live, truth[spoken][: len(live)]):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
