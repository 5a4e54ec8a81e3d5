"""Frames in and out: lazy frame sources and a streaming writer, both on PyAV."""

from .color import ColorInfo
from .frames import FrameSource
from .rates import as_rate
from .target import check_target
from .writer import VideoWriter

__all__ = ["ColorInfo", "FrameSource", "VideoWriter", "as_rate", "check_target"]
