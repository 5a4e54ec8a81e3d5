"""A session's items as a WebRTC peer wants them: video packets of one codec at a steady bit rate, sound at 48 kHz."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from scipy import signal

from .timeline import PACKETS_PER_SECOND, AudioItem, VideoItem

SOUND_RATE = 48000
SOUND_TIME_BASE = Fraction(1, SOUND_RATE)
PACKET_SAMPLES = SOUND_RATE // PACKETS_PER_SECOND
# Browsers offer H.264 level 3.1: 3,600 macroblocks.
_MAX_PIXELS = 1280 * 720
_BITS_PER_PIXEL = 0.2
_BITRATES = (1_000_000, 6_000_000)
_KEYFRAME_SECONDS = 4
_FILTER_REACH = 10


class VideoEncoder:
    """Encodes the pictures of one viewer. Not for two threads at once.

    The bit rate is fixed by the size of the picture, where aiortc's own encoders start over, with a visible jump, at
    each new estimate, and stay under what a face needs.
    """

    def __init__(self, codec: str, fps: Fraction, bitrate: int | None = None) -> None:
        """codec: ``"H264"`` or ``"VP8"``. bitrate: bits per second; None chooses by the size of the picture."""
        self._codec = codec
        self._fps = fps
        self._bitrate = bitrate
        self._context: VideoCodecContext | None = None
        self._last_keyframe = 0

    def encode(self, item: VideoItem, *, keyframe: bool = False) -> list[av.Packet]:
        """The packets of one picture, one as a rule; ``keyframe`` asks for a picture that needs no other."""
        image = fit(item.image)
        height, width = image.shape[:2]
        context = self._context
        if context is None or (context.width, context.height) != (width, height):
            context = self._context = self._open(width, height)
            keyframe = True
        due = item.pts_frames - self._last_keyframe >= _KEYFRAME_SECONDS * self._fps
        planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = item.pts_frames
        frame.time_base = 1 / self._fps
        if keyframe or due:
            frame.pict_type = PictureType.I
            self._last_keyframe = item.pts_frames
        packets = list(context.encode(frame))
        for packet in packets:
            packet.time_base = 1 / self._fps
        return packets

    def _open(self, width: int, height: int) -> VideoCodecContext:
        name = {"H264": "libx264", "VP8": "libvpx"}[self._codec]
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate, context.time_base = self._fps, 1 / self._fps
        context.thread_count = 1
        # Keyframes are asked for where they are due, so the encoder places none of its own.
        context.gop_size = 100_000
        low, high = _BITRATES
        bitrate = self._bitrate or min(high, max(low, round(width * height * self._fps * _BITS_PER_PIXEL)))
        context.bit_rate = bitrate
        if self._codec == "H264":
            context.profile = "Baseline"
            context.options = {
                "preset": "veryfast",
                "tune": "zerolatency",
                "level": "31",
                "maxrate": str(bitrate),
                "bufsize": str(bitrate // 2),
                "forced-idr": "1",
                "sc_threshold": "0",
            }
        else:
            context.options = {
                "deadline": "realtime",
                "cpu-used": "8",
                "lag-in-frames": "0",
                "error-resilient": "1",
                "maxrate": str(bitrate),
                "minrate": str(bitrate // 2),
                "bufsize": str(bitrate // 2),
            }
        return context


def fit(image: np.ndarray) -> np.ndarray:
    """uint8 RGB ``[H, W, 3]`` with even sides that a level 3.1 decoder takes: scaled down, or a row and column less."""
    height, width = image.shape[:2]
    scale = min(1.0, (_MAX_PIXELS / (height * width)) ** 0.5)
    even_height, even_width = (max(2, int(side * scale) // 2 * 2) for side in (height, width))
    if scale < 1:
        return cv2.resize(image, (even_width, even_height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:even_height, :even_width])


class SoundAt48k:
    """A session's 20 ms packets at 48 kHz, each 20 ms again, at the same time.

    A short symmetric low pass with carried history, so that packets join without a seam; it delays by ten samples of
    the lower rate, 0.6 ms from 16 kHz.
    """

    def __init__(self) -> None:
        self._rate = 0
        self._up = self._down = 1
        self._filter = np.ones(1)
        self._history = np.zeros(0)

    def convert(self, item: AudioItem) -> av.AudioFrame:
        """A mono s16 frame of 960 samples, with its time stamp."""
        if item.rate != self._rate:
            self._start(item.rate)
        samples = np.frombuffer(item.pcm, dtype="<i2").astype(np.float64)
        if item.rate != SOUND_RATE:
            samples = np.concatenate([self._history, samples])
            first = len(self._history) * self._up // self._down
            self._history = samples[len(samples) - len(self._history) :]
            samples = signal.upfirdn(self._filter, samples, self._up, self._down)[first : first + PACKET_SAMPLES]
        pcm = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = SOUND_RATE
        frame.pts = item.pts_samples * SOUND_RATE // item.rate
        frame.time_base = SOUND_TIME_BASE
        return frame

    def _start(self, rate: int) -> None:
        divisor = gcd(rate, SOUND_RATE)
        self._rate, self._up, self._down = rate, SOUND_RATE // divisor, rate // divisor
        widest = max(self._up, self._down)
        taps = 2 * _FILTER_REACH * widest + 1
        self._filter = signal.firwin(taps, 1 / widest, window=("kaiser", 5.0)) * self._up if widest > 1 else np.ones(1)
        # As much as the filter reaches back, in whole steps of both rates, so that packets stay in phase.
        reach = -(-taps // (self._up * self._down)) * self._down
        self._history = np.zeros(reach)
