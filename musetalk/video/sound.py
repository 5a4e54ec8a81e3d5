"""The sound track of a video being written."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from ..audio.source import AudioSource

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_MOST_KEPT = 6
_BITRATE_PER_CHANNEL = 96_000


class SoundTrack:
    """Encodes an AudioSource to AAC step by step, never further than it is told.

    Rates AAC does not have are resampled to the next one it has; 7 or 8 channels become 5.1, more mono.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        source: AudioSource,
        duration: Fraction | None,
        bitrate: int | None,
    ) -> None:
        self._container = container
        self._rate = source.sample_rate
        self._layout = _LAYOUTS.get(source.channels, "mono")
        kept = min(len(av.AudioLayout(self._layout).channels), _MOST_KEPT)
        encoded_rate = next((rate for rate in _AAC_RATES if rate >= self._rate), _AAC_RATES[-1])
        self._stream = container.add_stream("aac", rate=encoded_rate)
        self._stream.layout = _LAYOUTS[kept]
        self._stream.bit_rate = bitrate or kept * _BITRATE_PER_CHANNEL
        self._length = None if duration is None else round(duration * self._rate)
        self._blocks: Iterator[np.ndarray] = source.blocks()
        self._left = np.zeros((source.channels, 0), np.float32)
        self._sent = 0

    def advance(self, time: Fraction) -> None:
        """Encode what is due by `time` seconds; silence where the source has ended."""
        due = int(time * self._rate)
        self._send_until(due if self._length is None else min(due, self._length), pad=True)

    def finish(self, picture_end: Fraction, frame_time: Fraction) -> None:
        """Encode the rest: to the duration asked for, else to the pictures' end or up to a frame more."""
        if self._length is not None:
            self._send_until(self._length, pad=True)
        else:
            self._send_until(int(picture_end * self._rate), pad=True)
            self._send_until(int((picture_end + frame_time) * self._rate), pad=False)
        self._container.mux(self._stream.encode(None))

    def _send_until(self, end: int, pad: bool) -> None:
        while self._sent < end:
            wanted = end - self._sent
            if not self._left.shape[1]:
                block = next(self._blocks, None)
                if block is None:
                    if not pad:
                        return
                    block = np.zeros((self._left.shape[0], min(wanted, self._rate)), np.float32)
                self._left = block
            self._encode(self._left[:, :wanted])
            self._left = self._left[:, wanted:]

    def _encode(self, samples: np.ndarray) -> None:
        if self._layout == "mono" and len(samples) > 1:
            samples = samples.mean(axis=0, keepdims=True)
        # Interleaved: PyAV miscounts the planes of eight channels and more.
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._sent
        self._sent += samples.shape[1]
        self._container.mux(self._stream.encode(frame))
