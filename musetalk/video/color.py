"""Colour between decoded pictures and RGB: the matrix and range of the footage, both ways.

Conversions run in libswscale with accurate rounding and chroma interpolation. swscale's quicker default path,
which cv2.VideoCapture and the ffmpeg command use, truncates: one trip through it darkens luma by a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

from ..errors import InputError

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
_RGB, _BT709 = 0, 1
_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    10: "bt2020",
}
# Codes without coefficients of their own; swscale takes BT.601 for them, whatever the picture's size.
_UNTOLD = {0, UNSPECIFIED, 3}
_ACCURATE = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_QUICK = "bicubic"


@dataclass(frozen=True)
class ColorInfo:
    """How numbers become colours: code points of ITU-T H.273, as video files store them.

    matrix, primaries, transfer: 2 is unspecified. range: 0 unspecified, 1 limited (16-235), 2 full (0-255).
    Pictures that were RGB all along have matrix 0.
    """

    matrix: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @classmethod
    def rgb(cls) -> ColorInfo:
        """Arrays and image files."""
        return cls(matrix=_RGB, range=FULL)

    @classmethod
    def bt709(cls) -> ColorInfo:
        """High-definition video as players expect it."""
        return cls(_BT709, LIMITED, _BT709, _BT709)

    @classmethod
    def of(cls, frame: av.VideoFrame, codec: av.VideoCodecContext) -> ColorInfo:
        """The tags of a decoded stream. Raises InputError for a matrix swscale cannot invert."""
        info = cls(frame.colorspace, frame.color_range, codec.color_primaries, codec.color_trc)
        _matrix_name(info.matrix)
        return info

    def encoded(self) -> ColorInfo:
        """The tags to encode YUV with: these, or BT.709 for what was RGB all along."""
        return ColorInfo.bt709() if self.matrix == _RGB else self


class RgbDecoder:
    """Decoded frames of any pixel format -> uint8 RGB [h, w, 3], by each frame's own matrix and range.

    Alpha is flattened over black. High dynamic range (PQ, HLG) is not tone-mapped. With `parity` the
    conversion is swscale's quick default, to the bit what upstream's frame extraction gives.
    """

    def __init__(self, parity: bool = False) -> None:
        self._parity = parity
        self._key: tuple | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        key = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if key != self._key:
            self._convert, self._key = self._make(frame), key
        rgb = self._convert(frame).to_ndarray()
        return flatten(rgb) if rgb.shape[2] == 4 else rgb

    def _make(self, frame: av.VideoFrame) -> _Scale:
        options = [f"in_color_matrix={_matrix_name(frame.colorspace)}"]
        if frame.color_range in (LIMITED, FULL):
            options.append(f"in_range={'full' if frame.color_range == FULL else 'limited'}")
        if not self._parity:
            options += _siting("in", frame.format)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        flags = _QUICK if self._parity else _ACCURATE
        form = av.VideoFormat(frame.format.name, frame.width, frame.height)
        return _Scale(form, "rgba" if has_alpha else "rgb24", options, flags)


class RgbEncoder:
    """uint8 RGB [height, width, 3] -> frames of a YUV pixel format, by the matrix and range in `color`."""

    def __init__(self, width: int, height: int, pixel_format: str, color: ColorInfo) -> None:
        options = [
            f"out_color_matrix={_matrix_name(color.matrix)}",
            f"out_range={'full' if color.range == FULL else 'limited'}",
            *_siting("out", av.VideoFormat(pixel_format, width, height)),
        ]
        self._convert = _Scale(av.VideoFormat("rgb24", width, height), pixel_format, options, _ACCURATE)

    def __call__(self, rgb: np.ndarray) -> av.VideoFrame:
        return self._convert(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"))


class _Scale:
    """A filter graph of one scale filter, which is the same in every FFmpeg; VideoFrame.reformat is not."""

    def __init__(self, source: av.VideoFormat, target: str, options: list[str], flags: str) -> None:
        self._graph = Graph()
        self._source = self._graph.add_buffer(
            width=source.width, height=source.height, format=source, time_base=Fraction(1, 25)
        )
        scale = self._graph.add("scale", ":".join([*options, f"flags={flags}"]))
        form = self._graph.add("format", target)
        self._sink = self._graph.add("buffersink")
        self._source.link_to(scale)
        scale.link_to(form)
        form.link_to(self._sink)
        self._graph.configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._source.push(frame)
        converted = self._sink.pull()
        assert isinstance(converted, av.VideoFrame)
        return converted


def flatten(rgba: np.ndarray) -> np.ndarray:
    """Straight alpha over black: uint8 [h, w, 4] -> uint8 [h, w, 3]."""
    product = rgba[..., :3].astype(np.uint16) * rgba[..., 3:]
    return ((product + 127) // 255).astype(np.uint8)


def _matrix_name(matrix: int) -> str:
    if matrix in _UNTOLD:
        return "bt601"
    if matrix not in _MATRICES:
        raise InputError(f"colour matrix {matrix} (ITU-T H.273) is not supported; convert the video to BT.709 first")
    return _MATRICES[matrix]


def _siting(side: str, form: av.VideoFormat) -> list[str]:
    # Horizontally subsampled chroma sits on the left luma sample in H.264 and everything after MPEG-1.
    # FFmpeg's releases disagree on the default; decoding and encoding must agree or colour creeps half a
    # sample per generation.
    return [f"{side}_h_chr_pos=0"] if form.chroma_width(8) < 8 else []
