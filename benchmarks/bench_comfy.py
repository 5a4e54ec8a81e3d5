"""The pack inside a real ComfyUI on the CPU: start-up time with and without it, and peak memory of a long clip.

    python benchmarks/bench_comfy.py --comfy ~/comfy/ComfyUI --seconds 10 600

Each figure comes from a server of its own, with tiny random weights; the clip goes through Lip Sync Video.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from bench_memory import make_clip

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def server(comfy: Path, base: Path, *, with_pack: bool) -> Iterator[tuple[str, psutil.Process, float]]:
    """Start ComfyUI; gives its address, its process and the seconds until it answered."""
    for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / "musetalk-studio"
    link.unlink(missing_ok=True)
    if with_pack:
        link.symlink_to(ROOT, target_is_directory=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(comfy / ".venv" / "bin" / "python"), "main.py", "--cpu", "--port", str(port)]
    command += ["--base-directory", str(base), "--database-url", f"sqlite:///{base}/user/comfyui.db"]
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    begin = time.perf_counter()
    with (base / "comfy.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=comfy, stdout=log, stderr=log, env=environment)
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/system_stats", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit((base / "comfy.log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.05)
        yield address, psutil.Process(process.pid), time.perf_counter() - begin
    finally:
        process.terminate()
        process.wait(30)


def call(address: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def peak_memory(comfy: Path, base: Path, clip: Path) -> float:
    """Peak resident MB of the server while it makes one video."""
    (base / "input").mkdir(parents=True, exist_ok=True)
    shutil.copy(clip, base / "input" / clip.name)
    prompt = json.loads((ROOT / "workflows" / "api" / "long_video.json").read_text())
    prompt["1"]["inputs"]["file"] = clip.name
    del prompt["2"], prompt["4"]["inputs"]["audio"]  # the clip's own sound
    with server(comfy, base, with_pack=True) as (address, process, _):
        prompt_id = call(address, "/prompt", {"prompt": prompt})["prompt_id"]
        peak = 0
        while not (entry := call(address, f"/history/{prompt_id}").get(prompt_id)):
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.1)
        if entry["status"]["status_str"] != "success":
            raise SystemExit(str(entry["status"]["messages"]))
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfy", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    parser.add_argument("--seconds", type=int, nargs="*", default=[10, 600])
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--starts", type=int, default=3, help="how often to measure the start, with and without")
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(args.starts):
            for with_pack, seconds in times.items():
                with server(args.comfy, base, with_pack=with_pack) as (_, _, until_ready):
                    seconds.append(until_ready)
        if args.starts:
            print(f"start: {min(times[False]):.2f} s without the pack, {min(times[True]):.2f} s with it (best of each)")
        models = base / "models" / "musetalk"
        maker = [sys.executable, str(ROOT / "tests" / "random_models.py"), "--out", str(models)]
        subprocess.run([*maker, "--no-face-parser", "--core-vae"], check=True)
        for seconds in args.seconds:
            peak = peak_memory(args.comfy, base, make_clip(seconds, width, height))
            print(f"{seconds:>5} s of {args.size}: peak {peak:.0f} MB in the server process", flush=True)


if __name__ == "__main__":
    main()
