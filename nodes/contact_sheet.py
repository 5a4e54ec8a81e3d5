"""A contact sheet of settings tried on a few moments of a clip; nothing here needs ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from ..musetalk.blend import paste_face
from ..musetalk.errors import InputError, NoFaceError
from ..musetalk.face.masks import cut_box
from ..musetalk.face.sources import LandmarkSource
from ..musetalk.face.track import FaceTrack
from ..musetalk.face.tracking import track_faces
from ..musetalk.inpainting import predict_latents
from ..musetalk.latents import decode_batch
from ..musetalk.models import Models
from ..musetalk.playback import source_index
from ..musetalk.preparation import FaceMaterial, Preparer
from ..musetalk.profile import PARSING_MODES, Profile
from ..musetalk.video.frames import FrameSource

VARIABLES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "extra_margin": ("extra_margin",),
    "cheek_width": ("left_cheek_width", "right_cheek_width"),
    "blur_ratio": ("blur_ratio",),
    "expand": ("expand",),
}
"""What can be varied beside shift and mode, and the profile fields it sets."""
_WHOLE = ("extra_margin", "cheek_width")
_MOST_TILES = 256


@dataclass(frozen=True)
class Plan:
    """What to try: every shift with every mode and every value. profiles: rows of the sheet, one list per shift and
    value, one profile per mode. labels: the same shape.
    """

    profiles: list[list[Profile]]
    labels: list[list[str]]


def plan(base: Profile, shifts: str, modes: str, vary: str, values: str) -> Plan:
    """Lists as the user writes them, separated by commas, to profiles. Raises InputError for what cannot be used."""
    numbers = [int(shift) for shift in _numbers("bbox_shifts", shifts, whole=True)]
    names = [name.strip() for name in modes.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARSING_MODES]
    if unknown or not names:
        raise InputError(f"parsing_modes is {modes!r}; list some of {', '.join(PARSING_MODES)}, such as 'jaw, raw'")
    fields = VARIABLES[vary]
    varied = _numbers("vary_values", values, whole=vary in _WHOLE) if fields else [0]
    profiles, labels = [], []
    for shift in numbers:
        for value in varied:
            changes = dict.fromkeys(fields, value)
            profiles.append([base.changed(bbox_shift=shift, parsing_mode=name, **changes) for name in names])
            note = f" {vary} {value:g}" if fields else ""
            labels.append([f"shift {shift:+d} {name}{note}" for name in names])
    return Plan(profiles, labels)


def check_size(plan: Plan, moments: int) -> None:
    """Refuse a sheet nobody could look at. Raises InputError."""
    tiles = len(plan.profiles) * len(plan.profiles[0]) * moments
    if tiles > _MOST_TILES:
        raise InputError(f"the sheet would have {tiles} tiles, the most is {_MOST_TILES}; try fewer values at once")


def choose_moments(length: int, frames: int, count: int) -> tuple[list[int], list[int]]:
    """``count`` output frames spread over ``length`` of them, and the footage frames they show in ping-pong order."""
    outputs = sorted({(2 * place + 1) * length // (2 * count) for place in range(count)})
    return outputs, [source_index(output, frames) for output in outputs]


def make_sheet(
    models: Models,
    frames: FrameSource,
    sources: Sequence[int],
    windows: torch.Tensor,
    wanted: Plan,
    tile: int,
    progress: Callable[[int, int], None],
    finder: LandmarkSource | None = None,
) -> tuple[np.ndarray, FaceTrack]:
    """Draw the sheet: a row per shift and value, in it for every mode the moments side by side.

    sources: footage frames of the moments. windows: float32 ``[n, 50, C]``, theirs. tile: side of a picture in
    pixels. finder: what finds the face, the built-in mesh by default. Returns uint8 RGB ``[H, W, 3]`` and the face in
    the moments. Raises NoFaceError when none shows one.
    """
    pictures = frames.read(list(sources))
    rows, track = [], None
    for number, (profiles, labels) in enumerate(zip(wanted.profiles, wanted.labels, strict=True)):
        track = track_faces(pictures, source=finder, profile=profiles[0], still=True)
        if not track.valid.any():
            raise NoFaceError(f"no face found in the footage frames {list(sources)}; use footage that shows a face")
        rows.append(_row(models, pictures, track, windows, profiles, labels, tile))
        progress(number + 1, len(wanted.profiles))
    assert track is not None
    return np.concatenate(rows), track


def _row(
    models: Models,
    pictures: np.ndarray,
    track: FaceTrack,
    windows: torch.Tensor,
    profiles: Sequence[Profile],
    labels: Sequence[str],
    tile: int,
) -> np.ndarray:
    size = pictures.shape[2], pictures.shape[1]
    valid = [int(index) for index in np.flatnonzero(track.valid)]
    shown = [pictures[index] for index in valid]
    faces: np.ndarray | None = None
    tiles: list[np.ndarray] = []
    for profile, label in zip(profiles, labels, strict=True):
        items = Preparer(models, track, profile, size).prepare(valid, shown)
        if faces is None:  # the mode draws the mask only
            latents = torch.stack([item.latents for item in items])
            faces = decode_batch(models, predict_latents(models, latents, windows[valid]))
        made = dict(zip(valid, zip(faces, items, strict=True), strict=True))
        tiles += [_tile(picture, made.get(index), label, tile) for index, picture in enumerate(pictures)]
    return np.concatenate(tiles, axis=1)


def _tile(picture: np.ndarray, made: tuple[np.ndarray, FaceMaterial] | None, label: str, side: int) -> np.ndarray:
    if made is None:
        return _labelled(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), f"{label} (no face)")
    face, item = made
    frame = picture.copy()
    paste_face(frame, face, item.mask)
    crop = cut_box(frame, item.mask.crop_box, item.mask.turn)
    shrinks = crop.shape[0] > side
    return _labelled(
        cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), label
    )


def _labelled(tile: np.ndarray, text: str) -> np.ndarray:
    """The text along the lower edge, as large as fits, white on black."""
    font, unit = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, _), base = cv2.getTextSize(text, font, unit, 1)
    scale = unit * min(1.0, (len(tile) - 8) / width)
    place = (4, len(tile) - 4 - round(base * scale / unit))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, text, place, font, scale, colour, thickness, cv2.LINE_AA)
    return tile


def _numbers(name: str, text: str, *, whole: bool) -> list[Any]:
    try:
        numbers = [(int if whole else float)(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        kind = "whole numbers" if whole else "numbers"
        raise InputError(f"{name} is {text!r}; list {kind} separated by commas, such as '-7, 0, 7'")
    return numbers
