"""Opening encoders, with their refusals as errors a user can act on."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av

from ..errors import InputError
from .color import ColorInfo
from .target import FORMATS

_FIRST_CHOICES = ("libx264", "libx265", "h264_nvenc", "hevc_nvenc", "h264_videotoolbox", "mpeg4", "ffv1")
_TAKES_QUALITY = {"libx264", "libx265"}
_MAX_CRF = 51
_MOVIE_TIMESCALE = 48_000


def open_output(part: Path, fps: Fraction, metadata: Mapping[str, str] | None) -> av.container.OutputContainer:
    """A container to write to `part`, its format by suffix; MP4 and MOV play while they load."""
    form = FORMATS[part.suffix.lower()]
    options = {}
    if form != "matroska":
        options["movflags"] = "+faststart" + ("+use_metadata_tags" if metadata else "")
        # The unit of durations, by default a millisecond; whole frames need a multiple of the rate.
        options["movie_timescale"] = str(fps.numerator * -(-_MOVIE_TIMESCALE // fps.numerator))
    container = av.open(str(part), "w", format=form, container_options=options)
    container.metadata.update(metadata or {})
    return container


def pixel_format(codec: str, name: str) -> av.VideoFormat:
    """The pixel format `name`. Raises InputError unless this PyAV has `codec` and it takes the format."""
    try:
        formats = av.Codec(codec, "w").video_formats or []
    except av.codec.codec.UnknownCodecError:
        there = [choice for choice in _FIRST_CHOICES if choice in av.codecs_available]
        raise InputError(f"codec {codec!r} is not in this PyAV; use one of {', '.join(there)}") from None
    for form in formats:
        if form.name == name:
            return form
    known = ", ".join(form.name for form in formats)
    raise InputError(f"codec {codec} does not take pixel_format {name!r}; use one of {known or 'another codec'}")


def quality_options(codec: str, crf: int, preset: str) -> dict[str, str]:
    """Encoder options for the codecs that have crf and preset; none for the others."""
    if codec not in _TAKES_QUALITY:
        return {}
    if not 0 <= crf <= _MAX_CRF:
        raise InputError(f"crf={crf} is out of range; give 0 (lossless) to {_MAX_CRF}")
    return {"crf": str(crf), "preset": preset}


def add_video(
    container: av.container.OutputContainer,
    codec: str,
    form: av.VideoFormat,
    size: tuple[int, int],
    fps: Fraction,
    color: ColorInfo,
    options: dict[str, str],
) -> av.VideoStream:
    """An open video stream, 1/fps per frame, tagged with `color`. Raises InputError if the codec refuses."""
    try:
        stream = container.add_stream(codec, rate=fps, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = form.name
        context = stream.codec_context
        context.time_base = 1 / fps
        context.colorspace, context.color_range = color.matrix, color.range
        context.color_primaries, context.color_trc = color.primaries, color.transfer
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        settings = ", ".join(f"{key}={value}" for key, value in options.items())
        raise InputError(
            f"codec {codec} refuses {size[0]}x{size[1]} {form.name} {settings} in {container.format.name} ({error})"
        ) from error
    return stream
