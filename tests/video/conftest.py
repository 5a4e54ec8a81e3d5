"""Clips made on the spot: every picture carries its number as coded gray blocks that survive H.264."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 10
BLOCK = 8


def draw(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """uint8 RGB [height, width, 3]: `number` in the top left, something that moves below."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(BITS):
        left = bit * BLOCK
        picture[:BLOCK, left : left + BLOCK] = 235 if number >> bit & 1 else 16
    picture[BLOCK * 2 :, :, 0] = (np.arange(width) * 2 + number * 3) % 160 + 40
    picture[BLOCK * 2 :, :, 2] = (np.arange(height - BLOCK * 2)[:, None] * 2 + number) % 160 + 40
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number `draw` put into a picture."""
    centre = BLOCK // 2
    row = picture[centre - 2 : centre + 2, : BITS * BLOCK].astype(float).mean(axis=(0, 2))
    return sum(1 << bit for bit in range(BITS) if row[bit * BLOCK + 2 : bit * BLOCK + 6].mean() > 128)


def numbers_of(pictures: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in pictures]


def encode(
    path: Path,
    count: int = 30,
    rate: Fraction | int = 25,
    *,
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    picture: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """Encode `count` numbered pictures with plain PyAV, at pts `ticks` of `time_base` or at a constant
    rate.
    """
    defaults = {"crf": "16", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=defaults | (options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base or 1 / Fraction(rate)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number) if picture else draw(number, *size), format="rgb24")
            frame.pts = number if ticks is None else ticks[number]
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def clip_tools() -> type:
    """The functions above, for tests that cannot import this file by name."""

    class Tools:
        draw = staticmethod(draw)
        encode = staticmethod(encode)
        number_of = staticmethod(number_of)
        numbers_of = staticmethod(numbers_of)

    return Tools
