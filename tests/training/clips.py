"""Talking videos made on the spot: a portrait that moves steadily, with a mouth that opens and a tone as loud as it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from musetalk.audio.source import AudioSource
from musetalk.training.clip_file import pack
from musetalk.training.dataset_index import ClipEntry, DatasetIndex, Shard, Split
from musetalk.training.shards import write_shard
from musetalk.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000
SIDE = 256
SYLLABLES = 2.0
"""Openings of the mouth a second."""
SPEED = 8.0
"""Pixels a second that the face moves to the right."""


@dataclass(frozen=True)
class Portrait:
    """A square picture uint8 ``[SIDE + room, SIDE + room, 3]`` with one face; where its mouth is, and how wide."""

    picture: np.ndarray
    mouth: tuple[float, float]
    mouth_width: float


Show = Callable[[float], Portrait | None]
_NOTHING = np.full((SIDE, SIDE, 3), 90, np.uint8)


@cache
def hopper() -> Portrait:
    """A face about 150 px wide."""
    return _portrait(ROOT / "tests" / "data" / "grace_hopper.jpg", (95, 60, 431, 396), (267.6, 278.0), 72.0)


@cache
def astronaut() -> Portrait:
    """A face about 135 px wide, larger than in the original."""
    return _portrait(ROOT / "demo" / "astronaut.png", (120, 18, 310, 208), (223.5, 147.0), 45.0)


def opening(seconds: float) -> float:
    """How far the mouth is open, 0 to 1."""
    return float(np.sin(np.pi * SYLLABLES * seconds) ** 2)


def frame_at(portrait: Portrait, seconds: float) -> np.ndarray:
    """The picture at a time, uint8 RGB ``[SIDE, SIDE, 3]``."""
    shift = SPEED * seconds
    move = np.array([[1, 0, shift - 12.0], [0, 1, -8.0]], np.float64)
    picture = cv2.warpAffine(portrait.picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    x, y = portrait.mouth[0] + shift - 12.0, portrait.mouth[1] - 8.0
    half_width, half_height = 0.33 * portrait.mouth_width, 0.02 + 0.22 * portrait.mouth_width * opening(seconds)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = ((columns - x) / half_width) ** 2 + ((rows - y - half_height / 2) / half_height) ** 2 < 1
    picture[inside] = (60, 20, 20)
    return picture


def voice(seconds: float) -> np.ndarray:
    """The sound: a tone of 200 Hz as loud as the mouth is open, float32 at 16 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.4 * np.sin(2 * np.pi * 200 * time) * np.sin(np.pi * SYLLABLES * time) ** 2).astype(np.float32)


def write_video(path: Path, show: Show, seconds: float, fps: int = 25, *, sound: bool = True) -> Path:
    """A video file. show: who is to be seen at a time; None for nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = AudioSource.from_array(voice(seconds), RATE) if sound else None
    with VideoWriter(path, SIDE, SIDE, Fraction(fps), audio=audio, preset="ultrafast") as writer:
        for i in range(round(seconds * fps)):
            portrait = show(i / fps)
            writer.write((_NOTHING if portrait is None else frame_at(portrait, i / fps))[None])
    return path


def write_clip_set(
    folder: Path, lengths: Mapping[Split, Sequence[Sequence[int]]], *, sound: np.ndarray | None = None
) -> Path:
    """A data set of clips without faces, made at once: for each split the frames of each clip of each shard.

    The frame is told by its picture (see :func:`number_of`), the jaw drifts and the lips move; key ``<split>-a-b`` is
    clip b of shard a. sound: of every clip, at 16 kHz, long enough; else noise as loud as :func:`opening` says.
    """
    (folder / "shards").mkdir(parents=True)
    shards: dict[Split, list[Shard]] = {"train": [], "val": []}
    for split, sizes in lengths.items():
        for number, counts in enumerate(sizes):
            clips = [(f"{split}-{number}-{i}", count) for i, count in enumerate(counts)]
            name = f"{split}-{number:06d}.tar"
            write_shard(
                folder / "shards" / name, [(key, clip_members(key, count, sound=sound)) for key, count in clips]
            )
            entries = tuple(ClipEntry(key, f"{key}.mp4", count, 100) for key, count in clips)
            shards[split].append(Shard(name, entries))
    DatasetIndex(folder, tuple(shards["train"]), tuple(shards["val"])).save({})
    return folder


def clip_members(key: str, count: int, *, sound: np.ndarray | None = None) -> dict[str, bytes]:
    """The files of one such clip, 128 x 128 pixels."""
    rng = np.random.default_rng(len(key) + count)
    landmarks = np.empty((count, 68, 2), np.float32)
    landmarks[:] = rng.uniform(20, 100, (68, 2))
    landmarks[:, 48:68] = rng.uniform((52, 78), (76, 102), (20, 2))
    landmarks[:, :17, 0] += rng.uniform(-3, 3, (count, 1))
    landmarks[:, 60:, 1] += rng.uniform(0, 8, (count, 1))
    boxes = np.tile(np.array([14, 10, 114, 110], np.int32), (count, 1))
    time = np.arange(count * 640) / RATE
    noise = (rng.uniform(-0.5, 0.5, count * 640) * np.sin(np.pi * SYLLABLES * time) ** 2).astype(np.float32)
    about = {"source": f"{key}.mp4", "start": 0, "frames": count, "size": [128, 128]}
    return pack(
        (picture_of(i)[None] for i in range(count)),
        noise if sound is None else sound[: count * 640],
        landmarks,
        boxes,
        np.ones(count),
        about,
    )


def picture_of(number: int) -> np.ndarray:
    """uint8 RGB ``[128, 128, 3]``: grey above for ``number // 30``, grey below for ``number % 30``."""
    picture = np.empty((128, 128, 3), np.uint8)
    picture[:64], picture[64:] = 8 * (number // 30) + 8, 8 * (number % 30) + 8
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number of a picture, or of the crop of one."""
    quarter = len(picture) // 4
    above, below = (round((float(part.mean()) - 8) / 8) for part in (picture[:quarter], picture[-quarter:]))
    return 30 * above + below


def _portrait(path: Path, crop: tuple[int, int, int, int], mouth: tuple[float, float], mouth_width: float) -> Portrait:
    side = SIDE + 16
    with Image.open(path) as image:
        picture = image.convert("RGB").crop(crop).resize((side, side), Image.Resampling.LANCZOS)
    scale = side / (crop[2] - crop[0])
    return Portrait(
        np.asarray(picture), ((mouth[0] - crop[0]) * scale, (mouth[1] - crop[1]) * scale), mouth_width * scale
    )
