"""Sound from a file or an array, as re-iterable blocks of float32 at its own rate."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import InputError
from ..video.container import open_container, reading

_BLOCK = 1 << 16
_MAX_CHANNELS = 64


class AudioSource:
    """Sound of any length, read a block at a time; every call of `blocks()` starts over.

    sample_rate: Hz. channels: as in the original, 1 to 64. path: the file, None for arrays. Time 0 is the
    first video frame where the file has video, else the first sample: sound that starts later is preceded by
    silence, sound that starts earlier is cut, and encoder priming is left out.
    """

    sample_rate: int
    channels: int
    path: Path | None

    @staticmethod
    def open(path: str | Path) -> AudioSource:
        """The first sound track of an audio or video file.

        Raises InputError for a file that is missing, damaged, without a sound track or of zero length.
        """
        return _FileAudio(Path(path))

    @staticmethod
    def from_array(waveform: Any, sample_rate: int) -> AudioSource:
        """Wrap floating-point samples `[T]` or `[C, T]`, full scale 1.0, from NumPy or torch.

        Raises InputError for other shapes and types, no samples, or a rate that is no positive whole number.
        """
        return _ArrayAudio(waveform, sample_rate)

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 `[channels, n]` blocks, n >= 1, in order; 16-bit samples are scaled by 1/32768.

        Raises InputError, naming the time, for samples that are not finite or cannot be decoded.
        """
        done = 0
        for block in self._blocks():
            finite = np.isfinite(block).all(axis=0)
            if not finite.all():
                at = (done + int(np.argmin(finite))) / self.sample_rate
                raise InputError(f"{self._name} has a sample that is not a finite number at {at:.3f} s")
            done += block.shape[1]
            yield block

    @property
    def _name(self) -> str:
        return str(self.path or "the waveform")

    def _blocks(self) -> Iterator[np.ndarray]:
        raise NotImplementedError


class _ArrayAudio(AudioSource):
    path = None

    def __init__(self, waveform: Any, sample_rate: int) -> None:
        if hasattr(waveform, "detach"):
            waveform = waveform.detach().cpu().float().numpy()
        samples = np.asarray(waveform)
        if samples.ndim == 1:
            samples = samples[None]
        if samples.ndim != 2 or not np.issubdtype(samples.dtype, np.floating):
            raise InputError(
                f"the waveform is {samples.dtype} {list(samples.shape)}; give floating-point samples [T] or [C, T]"
            )
        if not samples.shape[1]:
            raise InputError("the waveform has no samples")
        if not 1 <= samples.shape[0] <= _MAX_CHANNELS:
            raise InputError(f"the waveform is {list(samples.shape)}; give [C, T] with 1 to {_MAX_CHANNELS} channels")
        if sample_rate != int(sample_rate) or sample_rate < 1:
            raise InputError(f"sample_rate={sample_rate} is not a positive whole number of Hz")
        self._samples = samples
        self.sample_rate = int(sample_rate)
        self.channels = samples.shape[0]

    def _blocks(self) -> Iterator[np.ndarray]:
        for start in range(0, self._samples.shape[1], _BLOCK):
            yield self._samples[:, start : start + _BLOCK].astype(np.float32)


class _FileAudio(AudioSource):
    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        # The first decoded frame knows the true rate and channels; headers may not (HE-AAC).
        for frame in self._frames():
            self.sample_rate = frame.sample_rate
            self.channels = len(frame.layout.channels)
            return
        raise InputError(f"{path} has a sound track without samples")

    def _frames(self) -> Iterator[av.AudioFrame]:
        with open_container(self.path) as container:
            if not container.streams.audio:
                raise InputError(f"{self.path} has no sound; give a file that has")
            with reading(self.path, "sound"):
                for frame in container.decode(container.streams.audio[0]):
                    if frame.samples:
                        yield frame

    def _timed_frames(self) -> Iterator[tuple[av.AudioFrame, int]]:
        """Frames and how many of their samples count: codecs fill up the last one, the container knows by how much."""
        previous: av.AudioFrame | None = None
        for frame in self._frames():
            if previous is not None:
                yield previous, previous.samples
            previous = frame
        if previous is not None:
            yield previous, self._samples_before_end(previous)

    def _samples_before_end(self, last: av.AudioFrame) -> int:
        with open_container(self.path) as container:
            stream = container.streams.audio[0]
            if stream.duration is None or stream.time_base is None or last.pts is None or last.time_base is None:
                return last.samples
            end = ((stream.start_time or 0) + stream.duration) * stream.time_base
            left = round((end - last.pts * last.time_base) * self.sample_rate)
        # A duration that ends before the last frame is not to be believed.
        return left if 0 < left < last.samples else last.samples

    def _blocks(self) -> Iterator[np.ndarray]:
        # Interleaved float32 from any sample format; PyAV reads past the end of eight or more planes.
        to_float = av.AudioResampler(format="flt")
        early = heard = 0
        for frame, length in self._timed_frames():
            if (frame.sample_rate, len(frame.layout.channels)) != (self.sample_rate, self.channels):
                at = heard / self.sample_rate
                raise InputError(f"{self.path} changes sample rate or channels at {at:.3f} s; convert it first")
            if not heard:
                late = round(self._start(frame) * self.sample_rate)
                yield from _silence(self.channels, late)
                early = max(0, -late)
            heard += frame.samples
            for part in to_float.resample(frame):
                samples = part.to_ndarray().reshape(-1, self.channels).T[:, :length]
                cut = min(early, samples.shape[1])
                early -= cut
                if cut < samples.shape[1]:
                    yield np.ascontiguousarray(samples[:, cut:])

    def _start(self, frame: av.AudioFrame) -> Fraction:
        """Seconds from the first video frame to this first audio frame; 0 without video."""
        assert frame.time_base is not None
        with open_container(self.path) as container:
            video = next((stream for stream in container.streams.video if stream.average_rate), None)
            if video is None or video.start_time is None or video.time_base is None or frame.pts is None:
                return Fraction(0)
            return frame.pts * frame.time_base - video.start_time * video.time_base


def _silence(channels: int, samples: int) -> Iterator[np.ndarray]:
    for start in range(0, samples, _BLOCK):
        yield np.zeros((channels, min(_BLOCK, samples - start)), np.float32)
