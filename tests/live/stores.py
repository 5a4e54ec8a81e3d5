"""What tests of the avatar store share."""

from __future__ import annotations

from pathlib import Path

from musetalk.live.generator import ModelGenerator
from musetalk.live.jobs import BackgroundJob
from musetalk.live.store import AvatarStore


class Counting(ModelGenerator):
    """Counts the frames that were drawn."""

    drawn = 0

    def generate(self, jobs):
        self.drawn += len(jobs)
        return super().generate(jobs)


def put(store: AvatarStore, data: bytes | Path) -> Path:
    """An upload of these bytes, or of a file."""
    upload = store.upload_path()
    upload.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
    return upload


def finished(job: BackgroundJob) -> BackgroundJob:
    """The job, once it has ended."""
    assert job.wait(60), f"{job.kind} is still at {job.stage}"
    return job
