"""Servers as processes of their own, at ports that are free."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: Sequence[str], cwd: Path, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to ``log``; it is asked to end afterwards, and made to after 20 s."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=cwd, stdout=file, stderr=file, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
