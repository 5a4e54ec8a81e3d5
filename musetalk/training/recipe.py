"""One training sample: what is drawn for it, and how it is cut out of a clip (spec section 8.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from PIL import Image

from ..audio.mel import log_mel
from ..audio.sync_mel import WINDOW_COLUMNS, sync_mel_window
from ..audio.waveform import SAMPLE_RATE
from ..audio.windows import STEPS_PER_SECOND, window_starts
from ..errors import InputError
from ..face.boxes import Box, add_extra_margin
from ..latents import FACE_SIZE
from .augment import Augmentation, Change
from .clip_file import FPS, Clip, read_pictures
from .losses.mouth import mouth_rectangle
from .sampling import (
    MARGIN_MEAN,
    MARGIN_METHODS,
    MARGIN_SPREAD,
    REFERENCE_METHODS,
    TOP_K,
    ReferenceMethod,
    draw_margin,
    in_box,
    random_reference,
    select_reference,
)

SYNC_FRAMES = 16
Sample = dict[str, torch.Tensor | str]


@dataclass(frozen=True)
class SampleOptions:
    """How samples are drawn.

    frames: T, consecutive target frames, each with a reference of its own.
    reference: ``informative`` (see `select_reference`, with its ``top_k``) or ``random``.
    margin: how the lower edge of crops is moved: ``none``; ``normal`` or ``uniform`` around ``margin_mean``, by at most
        ``margin_spread`` (see `draw_margin`), one for all targets of a sample and one for each reference.
    """

    frames: int = 1
    reference: ReferenceMethod = "informative"
    top_k: float = TOP_K
    margin: Literal["none", "normal", "uniform"] = "none"
    margin_mean: float = MARGIN_MEAN
    margin_spread: float = MARGIN_SPREAD
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"frames is {self.frames}; a sample has at least one target frame")
        if self.reference not in REFERENCE_METHODS:
            raise InputError(f"reference is {self.reference!r}; use one of {', '.join(REFERENCE_METHODS)}")
        if self.margin != "none" and self.margin not in MARGIN_METHODS:
            raise InputError(f"margin is {self.margin!r}; use one of none, {', '.join(MARGIN_METHODS)}")
        if not 0 < self.top_k <= 1:
            raise InputError(f"top_k is {self.top_k}; it is a share, above 0 and up to 1")


@dataclass(frozen=True)
class Recipe:
    """What one sample shows: its frames, each with the box that is cut out of it.

    start: first target. mouth: int64 ``[T, 4]``, the mouth's rectangle in the targets' crops. change: see `Change`.
    """

    start: int
    targets: tuple[tuple[int, Box], ...]
    references: tuple[tuple[int, Box], ...]
    mouth: np.ndarray
    change: Change


def draw_recipe(clip: Clip, placed: np.ndarray, options: SampleOptions, rng: np.random.Generator) -> Recipe:
    """Draw a sample of a clip. placed: the clip's landmarks as `in_box` gives them.

    Raises InputError for a face whose mouth lies outside its box.
    """
    frames = options.frames
    start = int(rng.integers(0, len(clip) - frames + 1))
    shared = _margin(options, rng)
    targets, references = [], []
    for target in range(start, start + frames):
        if options.reference == "random":
            reference = random_reference(len(clip), target, rng, frames=frames)
        else:
            reference = select_reference(placed, target, rng, frames=frames, top_k=options.top_k)
        targets.append((target, _box(clip, target, shared)))
        references.append((reference, _box(clip, reference, _margin(options, rng))))
    change = options.augmentation.draw(rng)
    points = in_box(clip.landmarks[start : start + frames], np.array([box for _, box in targets]))
    mouth = mouth_rectangle(change.landmarks(points, FACE_SIZE))
    return Recipe(start, tuple(targets), tuple(references), mouth, change)


@dataclass(frozen=True)
class Cut:
    """A recipe with its pictures: targets and references, uint8 RGB ``[T, 256, 256, 3]`` each, in memory as bytes."""

    recipe: Recipe
    targets: np.ndarray
    references: np.ndarray


def cut_out(clip: Clip, recipes: Sequence[Recipe]) -> list[Cut]:
    """The pictures of several samples of one clip, of which every frame is decoded once. Raises InputError."""
    uses: dict[int, list[tuple[np.ndarray, Box]]] = {}
    cuts: list[Cut] = []
    for recipe in recipes:
        whole = np.empty((2, len(recipe.targets), FACE_SIZE, FACE_SIZE, 3), np.uint8)
        cuts.append(Cut(recipe, whole[0], whole[1]))
        for rows, wanted in zip(whole, (recipe.targets, recipe.references), strict=True):
            for row, (frame, box) in zip(rows, wanted, strict=True):
                uses.setdefault(frame, []).append((row, box))
    for frame, picture in read_pictures(clip.video, list(uses)):
        if picture.shape[1::-1] != clip.size:
            raise InputError(
                f"its pictures are {picture.shape[1]}x{picture.shape[0]}, not {clip.size[0]}x{clip.size[1]}"
            )
        image = Image.fromarray(picture)
        for row, box in uses[frame]:
            row[:] = np.asarray(image.crop(box).resize((FACE_SIZE, FACE_SIZE), Image.Resampling.LANCZOS))
    return cuts


def finish(key: str, clip: Clip, cut: Cut, mel: torch.Tensor) -> Sample:
    """The sample as tensors. mel: of the clip's sound, see :func:`mel_of`."""
    recipe, frames = cut.recipe, len(cut.targets)
    numbers = [number for number, _ in recipe.targets]
    return {
        "key": key,
        "start": torch.tensor(recipe.start),
        "targets": _as_images(recipe.change.pictures(cut.targets)),
        "references": _as_images(recipe.change.pictures(cut.references)),
        "mouth": torch.from_numpy(recipe.mouth),
        "mel": mel,
        "window_starts": torch.from_numpy(window_starts(len(clip.sound), FPS)[numbers]),
        "sound_steps": torch.tensor(len(clip.sound) * STEPS_PER_SECOND // SAMPLE_RATE),
        "sync_mel": sync_mel_window(clip.sound, recipe.start)
        if frames == SYNC_FRAMES
        else torch.zeros(80, WINDOW_COLUMNS),
    }


def mel_of(clip: Clip) -> torch.Tensor:
    """The log-mel of a clip's whole sound, float32 ``[80, 3000]``."""
    return log_mel(clip.sound)


def collate(samples: Sequence[Mapping[str, torch.Tensor | str]]) -> dict[str, torch.Tensor | list[str]]:
    """A batch: tensors stacked along a new first dimension, texts as a list. Samples must have the same keys."""
    batch: dict[str, torch.Tensor | list[str]] = {}
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        if isinstance(first, torch.Tensor):
            batch[name] = torch.stack([value for value in values if isinstance(value, torch.Tensor)])
        else:
            batch[name] = [str(value) for value in values]
    return batch


def _margin(options: SampleOptions, rng: np.random.Generator) -> int:
    if options.margin == "none":
        return 0
    return draw_margin(rng, mean=options.margin_mean, spread=options.margin_spread, method=options.margin)


def _box(clip: Clip, frame: int, margin: int) -> Box:
    x0, y0, x1, y1 = (int(v) for v in clip.boxes[frame])
    return add_extra_margin((x0, y0, x1, y1), margin, clip.size[1])


def _as_images(crops: np.ndarray) -> torch.Tensor:
    """uint8 ``[T, 256, 256, 3]`` to float32 ``[T, 3, 256, 256]`` in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
