"""One training clip as the files of a WebDataset sample: pictures, sound, where the face is, and where it came from.

``<key>.mp4``: 25 fps H.264, crf 15, yuv420p, BT.709, a keyframe at least every 25 frames, no sound.
``<key>.wav``: 16 kHz mono, 16 bit, exactly 640 samples per frame.
``<key>.npz``: ``landmarks`` float32 ``[M, 68, 2]`` px of that mp4, ``boxes`` int32 ``[M, 4]``, ``scores`` float32
``[M]``.
``<key>.json``: ``source``, ``start`` (first frame in the source at 25 fps), ``frames``, ``size`` [w, h], ``crop`` (the
part of the source's picture that the mp4 shows, x0 y0 x1 y1), ``person``.
"""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ..audio.waveform import SAMPLE_RATE
from ..errors import InputError
from ..video.color import ColorInfo, RgbDecoder, RgbEncoder
from ..video.encoder import add_video, pixel_format

FPS = Fraction(25)
SAMPLES_PER_FRAME = SAMPLE_RATE // 25
KEYFRAME_INTERVAL = 25
MEMBERS = ("json", "mp4", "npz", "wav")
_FULL_SCALE = 32768
# One thread, since videos are worked on in parallel; without mbtree, in which libx264 is not the same from run to run.
_ENCODER = {"crf": "15", "preset": "medium", "g": str(KEYFRAME_INTERVAL), "threads": "1", "mbtree": "0"}


@dataclass(frozen=True)
class Clip:
    """A clip as it is read back; ``video`` stays encoded until :func:`read_pictures`.

    sound: float32 ``[640 * M]``. landmarks: float32 ``[M, 68, 2]``. boxes: int32 ``[M, 4]``. size: width, height.
    """

    video: bytes
    sound: np.ndarray
    landmarks: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def parse(cls, members: Mapping[str, bytes]) -> Clip:
        """Check and open what :func:`pack` made. Raises InputError, without the clip's name, for anything else."""
        missing = [name for name in MEMBERS if name not in members]
        if missing:
            raise InputError(f"it has no {' and no '.join(missing)}")
        try:
            about = json.loads(members["json"])
            with np.load(io.BytesIO(members["npz"]), allow_pickle=False) as file:
                landmarks, boxes, scores = file["landmarks"], file["boxes"], file["scores"]
            width, height = (int(side) for side in about["size"])
            count = int(about["frames"])
            sound = _read_wav(members["wav"])
        except InputError:
            raise
        except Exception as error:  # of zipfile, zlib, wave, json, tokenize and NumPy: for damage each has its own
            raise InputError(f"it cannot be read ({type(error).__name__}: {error})") from error
        kinds = [array.dtype for array in (landmarks, boxes, scores)]
        if kinds != [np.float32, np.int32, np.float32]:
            raise InputError(f"its landmarks, boxes and scores are {', '.join(map(str, kinds))}")
        if landmarks.shape != (count, 68, 2) or boxes.shape != (count, 4) or len(sound) != count * SAMPLES_PER_FRAME:
            raise InputError(
                f"its {count} frames have landmarks {list(landmarks.shape)}, boxes {list(boxes.shape)} "
                f"and {len(sound)} samples of sound"
            )
        if not np.isfinite(landmarks).all():
            raise InputError("it has landmarks that are no numbers")
        x0, y0, x1, y1 = boxes.T
        if (
            (x0 < 0).any()
            or (y0 < 0).any()
            or (x1 > width).any()
            or (y1 > height).any()
            or (x1 <= x0).any()
            or (y1 <= y0).any()
        ):
            raise InputError(f"it has boxes without area, or outside its {width}x{height} pictures")
        return cls(members["mp4"], sound, landmarks, boxes, scores, (width, height))


def pack(
    pictures: Iterable[np.ndarray],
    sound: np.ndarray,
    landmarks: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    about: Mapping[str, Any],
) -> dict[str, bytes]:
    """The members of one clip.

    pictures: uint8 RGB ``[n, H, W, 3]``, M frames in all, even sides. sound: float32 ``[640 * M]``, full scale 1.
    """
    arrays = io.BytesIO()
    np.savez_compressed(
        arrays,
        landmarks=landmarks.astype(np.float32),
        boxes=boxes.astype(np.int32),
        scores=scores.astype(np.float32),
    )
    return {
        "json": json.dumps(dict(about), indent=1).encode(),
        "mp4": _encode(pictures, about["size"]),
        "npz": arrays.getvalue(),
        "wav": _write_wav(sound),
    }


def read_pictures(video: bytes, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Decode frames of a clip: (number, uint8 RGB ``[H, W, 3]``), ascending, each once.

    Decoding starts at the keyframe before a wanted frame and does not run through gaps longer than that. Raises
    InputError for a frame that cannot be decoded.
    """
    numbers = sorted(set(wanted))
    to_rgb = RgbDecoder()
    try:
        with av.open(io.BytesIO(video), "r") as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None
            ticks = 1 / (FPS * stream.time_base)
            position, decoded = 0, container.decode(stream)
            for number in numbers:
                if number - number % KEYFRAME_INTERVAL > position:
                    container.seek(int(number * ticks), stream=stream, backward=True)
                    decoded = container.decode(stream)
                for frame in decoded:
                    assert frame.pts is not None
                    position = round(frame.pts / ticks) + 1
                    if position > number:
                        break
                if position != number + 1:
                    raise InputError(f"frame {number} of its video is missing")
                yield number, to_rgb(frame)
    except (av.error.FFmpegError, IndexError) as error:
        raise InputError(f"its video cannot be decoded ({error})") from error


def _encode(pictures: Iterable[np.ndarray], size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    color = ColorInfo.bt709()
    with av.open(file, "w", format="mp4") as container:
        form = pixel_format("libx264", "yuv420p")
        stream = add_video(container, "libx264", form, (size[0], size[1]), FPS, color, _ENCODER)
        encode = RgbEncoder(size[0], size[1], form.name, color)
        count = 0
        for part in pictures:
            for picture in part:
                frame = encode(picture)
                frame.pts, frame.time_base = count, 1 / FPS
                container.mux(stream.encode(frame))
                count += 1
        container.mux(stream.encode(None))
    return file.getvalue()


def _write_wav(sound: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, len(sound), "NONE", ""))
        scaled = (sound * _FULL_SCALE).round().clip(-_FULL_SCALE, _FULL_SCALE - 1)
        writer.writeframes(scaled.astype("<i2").tobytes())
    return file.getvalue()


def _read_wav(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data), "rb") as reader:
        if (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) != (1, 2, SAMPLE_RATE):
            raise InputError("its sound is not 16 kHz mono of 16 bit")
        samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
    return samples.astype(np.float32) / _FULL_SCALE
