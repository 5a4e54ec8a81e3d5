"""VideoWriter: frames and sound to one file, in one encode."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import av
import numpy as np

from ..errors import InputError, MuseTalkError, OutputError
from .color import ColorInfo, RgbEncoder
from .encoder import add_video, open_output, quality_options
from .encoder import pixel_format as pixel_format_of
from .frames import check_size
from .rates import as_rate
from .sound import SoundTrack
from .target import check_free, check_target, hidden_sibling

if TYPE_CHECKING:
    from ..audio.source import AudioSource

logger = logging.getLogger(__name__)


class VideoWriter:
    """Writes uint8 RGB frames, and sound beside them as they come, at an exact constant frame rate.

    The file is built under a hidden name in the target's folder and renamed when it is complete: `close()` or
    a clean end of the `with` block. An exception, `abort()` or a full disk leaves nothing behind.

    Colour is encoded and tagged as `color` says, the way the footage had it; without `color`, or for what was
    RGB all along, as BT.709 in limited range. A pixel format that shares chroma between pixels needs even
    sides: an odd side is continued by one repeated column or row.
    """

    check_target = staticmethod(check_target)

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: Fraction,
        *,
        audio: AudioSource | None = None,
        audio_duration: Fraction | None = None,
        color: ColorInfo | None = None,
        codec: str = "libx264",
        crf: int = 18,
        preset: str = "medium",
        pixel_format: str | None = None,
        audio_bitrate: int | None = None,
        overwrite: bool = False,
        metadata: Mapping[str, str] | None = None,
        private: bool = False,
    ) -> None:
        """Check everything that can be checked and open the file.

        path: .mp4, .m4v, .mov or .mkv. fps: exact.
        audio: encoded to AAC; it lasts `audio_duration` seconds, else as long as the pictures (its own end
        may overhang by less than a frame), with silence where it is short.
        crf, preset: of libx264 and libx265; other codecs keep their own defaults.
        pixel_format: default yuv420p; ffv1 keeps RGB to the bit as bgr0.
        audio_bitrate: bit/s, default 96000 per channel. metadata: text tags of the file.
        private: for its owner alone to read (mode 600), where files have such modes.

        Raises OutputError for a target that cannot be written, InputError for options that do not fit.
        """
        self.path = check_target(path, overwrite)
        self.fps = as_rate(fps)
        self.width, self.height = check_size(width, height, "the video")
        self._overwrite = overwrite
        self._frames = 0
        self._closed = False
        form = pixel_format_of(codec, pixel_format or "yuv420p")
        options = quality_options(codec, crf, preset)
        pad_x = width % 2 if form.chroma_width(8) < 8 else 0
        pad_y = height % 2 if form.chroma_height(8) < 8 else 0
        self._pad = ((0, 0), (0, pad_y), (0, pad_x), (0, 0)) if pad_x or pad_y else None
        if self._pad:
            logger.info("%s: %dx%d is padded to even sides", self.path.name, width, height)
        size = (width + pad_x, height + pad_y)
        color = ColorInfo.rgb() if form.is_rgb else (color or ColorInfo.rgb()).encoded()
        self._part = hidden_sibling(self.path)
        self._container = self._open(private, metadata)
        try:
            with self._writing():
                self._sound: SoundTrack | None = None
                self._video = add_video(self._container, codec, form, size, self.fps, color, options)
                if audio is not None:
                    self._sound = SoundTrack(self._container, audio, audio_duration, audio_bitrate)
                self._container.start_encoding()
            self._encode = RgbEncoder(*size, form.name, color)
        except BaseException:
            self.abort()
            raise

    def _open(self, private: bool, metadata: Mapping[str, str] | None) -> av.container.OutputContainer:
        try:
            with self._writing():
                if private:
                    # Before anything is in it; what opens it keeps its mode.
                    self._part.touch(mode=0o600)
                return open_output(self._part, self.fps, metadata)
        except BaseException:
            self._part.unlink(missing_ok=True)
            raise

    def write(self, frames: np.ndarray) -> None:
        """Append uint8 RGB `[n, height, width, 3]`.

        Raises InputError for other shapes, OutputError when the file cannot grow; nothing is left behind.
        """
        if self._closed:
            raise InputError(f"{self.path} is closed; nothing more can be written to it")
        try:
            expected = (self.height, self.width, 3)
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
                raise InputError(f"frames are {frames.dtype} {list(frames.shape)}; give uint8 [n, {expected}]")
            with self._writing():
                for picture in frames if self._pad is None else np.pad(frames, self._pad, mode="edge"):
                    self._write_picture(picture)
        except BaseException:
            self.abort()
            raise

    def close(self) -> None:
        """Finish the file and move it to its name. Raises OutputError, leaving nothing behind."""
        if self._closed:
            return
        try:
            if not self._frames:
                raise OutputError(f"no frame was written to {self.path}")
            with self._writing():
                self._container.mux(self._video.encode(None))
                if self._sound:
                    self._sound.finish(self._frames / self.fps, 1 / self.fps)
                self._container.close()
                check_free(self.path, self._overwrite)
                self._part.replace(self.path)
            self._closed = True
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop everything written so far. Does nothing after `close()`."""
        if self._closed:
            return
        self._closed = True
        # Windows removes closed files only; that this one may not close cleanly is no news.
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _write_picture(self, picture: np.ndarray) -> None:
        frame = self._encode(picture)
        frame.pts, frame.time_base = self._frames, 1 / self.fps
        self._container.mux(self._video.encode(frame))
        self._frames += 1
        if self._sound:
            self._sound.advance(self._frames / self.fps)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except MuseTalkError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"cannot write {self.path} ({reason}); nothing was left behind") from error
