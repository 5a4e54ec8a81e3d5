"""What was watched can be watched again: a recording is whole, in sync, and appears only when complete."""

from __future__ import annotations

import asyncio
import os
import stat
from fractions import Fraction

import numpy as np
import pytest

from musetalk.audio.source import AudioSource
from musetalk.errors import OutputError
from musetalk.live.errors import LiveError
from musetalk.live.timeline import SessionLimits
from musetalk.video.frames import FrameSource


async def play(fakes, session, clock, seconds: float) -> None:
    """Advance no faster than the recording's thread keeps up."""
    for _ in range(round(seconds * 25)):
        await clock.advance(0.04)
        while session._recording is not None and len(session._recording._viewer._video) > 10:
            await asyncio.sleep(0.001)


def sound_of(path) -> np.ndarray:
    return np.concatenate([block[0] for block in AudioSource.open(path).blocks()])


@pytest.mark.skipif(os.name != "posix", reason="only POSIX modes say who may read a file")
def test_a_recording_is_for_its_owner_alone(fakes, tmp_path):
    async def run():
        async with fakes.running() as (session, clock, _):
            session.record(tmp_path / "talk.mp4")
            (part,) = tmp_path.iterdir()
            assert stat.S_IMODE(part.stat().st_mode) == 0o600
            await play(fakes, session, clock, 0.4)
            assert stat.S_IMODE((await session.stop_recording()).stat().st_mode) == 0o600

    asyncio.run(run())


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30)])
def test_a_recording_has_every_frame_and_its_sound_in_place(fakes, tmp_path, fps):
    async def run():
        async with fakes.running(fakes.FakeAvatar(fps=fps), fps=fps) as (session, clock, _):
            await play(fakes, session, clock, 0.2)
            session.record(tmp_path / "talk.mp4")
            with pytest.raises(LiveError, match="records already"):
                session.record(tmp_path / "other.mp4")
            first = session.now
            await play(fakes, session, clock, 0.4)
            spoken: list[int] = []
            session.listen(lambda event: spoken.append(event.pts_frames) if event.kind == "started" else None)
            await session.push_pcm(fakes.tone(1.0, 24000, 0.5), 24000)
            session.end_of_segment()
            await play(fakes, session, clock, 2)
            last = session.now
            assert not (tmp_path / "talk.mp4").exists()
            path = await session.stop_recording()
            assert sorted(entry.name for entry in tmp_path.iterdir()) == ["talk.mp4"]
            with FrameSource.open(path) as frames:
                assert frames.fps == fps and len(frames) == last - first
                bright = [index for index, frame in enumerate(frames) if frame[..., 2].mean() > 120]
            loud = np.flatnonzero(np.abs(sound_of(path)) > 0.25)
            begun = (spoken[0] - first) / fps
            assert abs(loud[0] / 48000 - begun) < 0.02 and abs((loud[-1] - loud[0]) / 48000 - 1) < 0.02
            assert abs(bright[0] - (spoken[0] - first)) <= 2
            with pytest.raises(LiveError, match="does not record"):
                await session.stop_recording()

    asyncio.run(run())


def test_another_avatar_is_fitted_and_a_gap_is_filled(fakes, tmp_path):
    async def run():
        async with fakes.running(limits=SessionLimits(recording_s=4)) as (session, clock, _):
            session.record(tmp_path / "talk.mkv")
            await play(fakes, session, clock, 0.4)
            wide = fakes.FakeAvatar()
            wide.idle_frame = lambda source: np.full((10, 40, 3), 255, np.uint8)
            switching = asyncio.create_task(session.switch_avatar(wide))
            await play(fakes, session, clock, 0.4)
            await switching
            await clock.halt(2)
            await play(fakes, session, clock, 3)
            path = await session.stop_recording()
            with FrameSource.open(path) as frames:
                assert len(frames) == 100, "as long as it may be"
                assert frames[12][4].mean() > 200 and frames[12][0].mean() < 50
                assert np.abs(frames[40].astype(int) - frames[15]).mean() < 4
            assert abs(len(sound_of(path)) / 48000 - 4) < 0.05

    asyncio.run(run())


def test_a_failing_recording_harms_nobody(fakes, tmp_path, caplog, monkeypatch):
    def full(self, packet):
        raise OSError(28, "No space left on device")

    async def run():
        async with fakes.running() as (session, clock, _):
            with pytest.raises(OutputError):
                session.record(tmp_path / "missing" / "talk.mp4")
            session.record(tmp_path / "talk.mp4")
            monkeypatch.setattr("musetalk.video.writer.VideoWriter._write_picture", full)
            await play(fakes, session, clock, 0.4)
            with pytest.raises(OutputError, match="No space left"):
                await session.stop_recording()
            assert list(tmp_path.iterdir()) == [] and not session.closed
            pictures, _ = await fakes.collect(session, clock, 0.4)
            assert len(pictures) >= 9

    asyncio.run(run())


def test_the_end_of_a_session_finishes_its_recording(fakes, tmp_path):
    async def run():
        async with fakes.running() as (session, clock, _):
            session.record(tmp_path / "talk.mp4")
            await play(fakes, session, clock, 0.4)
            shown = session.now
        with FrameSource.open(tmp_path / "talk.mp4") as frames:
            assert len(frames) == shown

    asyncio.run(run())
