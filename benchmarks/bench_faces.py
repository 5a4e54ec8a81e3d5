"""Milliseconds per frame of every face backend on a clip, and how steady what it finds is.

    python benchmarks/bench_faces.py CLIP [--frames 100] [--threads 1] [--models DIR] [--device cuda]

Frames are decoded before the clock starts. DWPose and S3FD run when DIR holds their files (random weights do as well:
the work is the same, what they find means nothing). Jitter is the white-noise sigma of the 68 landmarks in pixels, raw
and smoothed. Prints one JSON object per backend.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musetalk import FrameSource, Profile
from musetalk.face.mesh import FaceMesh
from musetalk.face.mesh_source import MeshLandmarks
from musetalk.face.people import find_people
from musetalk.face.published import open_landmarks
from musetalk.face.s3fd import detect_faces
from musetalk.face.track import FaceTrack
from musetalk.face.tracking import track_faces
from musetalk.models.layout import find_face_network
from musetalk.models.load import resolve_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: 1)")
    parser.add_argument("--models", type=Path, help="folder with dwpose/ and s3fd/")
    parser.add_argument("--device", help="cuda, mps, cpu, ... (default: the best there is)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    with FrameSource.open(args.clip) as source:
        frames = source[: args.frames]
    where = {"device": torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {args.threads} threads"}
    mesh = FaceMesh.load()
    rows: dict[str, Callable[[], Any]] = {
        "built-in mesh, one face": lambda: track_faces(frames, source=MeshLandmarks(mesh)),
        "built-in mesh, everybody": lambda: find_people(frames, source=MeshLandmarks(mesh)),
    }
    if args.models is not None:
        pose = open_landmarks("dwpose", args.models, device, gate=False)
        rows["DWPose, face-centred"] = lambda: track_faces(frames, source=pose)
        rows["DWPose, whole frame (parity)"] = lambda: track_faces(frames, source=pose, profile=Profile(parity=True))
        checkpoint = find_face_network(args.models, "s3fd")
        if checkpoint is not None:
            network = checkpoint.build(device)
            rows["S3FD"] = lambda: [detect_faces(network, frame) for frame in frames[:8]]
    for name, run in rows.items():
        run_once = run()  # warms up
        started = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - started
        count = len(frames) if name != "S3FD" else len(run_once)
        row: dict[str, Any] = {"backend": name, "ms_per_frame": round(1000 * seconds / count, 2), **where}
        if isinstance(result, FaceTrack):
            row["found"] = int(result.valid.sum())
            row["jitter"] = None if result.jitter is None else vars(result.jitter)
            row["box_step"] = float(np.abs(np.diff(result.boxes, axis=0)).mean()) if result.valid.all() else None
        print(json.dumps(row))


if __name__ == "__main__":
    main()
