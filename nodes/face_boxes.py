"""What Prepare Avatar tells the page: a few frames and their face boxes, for the shift line of js/."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..musetalk.avatar import Avatar
from ..musetalk.face.boxes import shift_range
from ..musetalk.face.masks import cut_box
from ..musetalk.face.upright import edges, turn_points
from .host.folders import scratch_file

_QUALITY = 85


def face_box_reports(avatar: Avatar, most: int, longest_side: int) -> list[dict[str, Any]]:
    """Up to ``most`` frames with a face, spread over the clip, each saved as a picture in ComfyUI's temp folder.

    Numbers are pixels of the picture, at the source frame's scale; js/lib/face_boxes.js says what each entry holds. A
    frame whose box is turned with the head is shown turned upright, so that its box and lines are level.
    """
    valid = np.flatnonzero(avatar.track.valid)
    chosen = valid[np.unique(np.linspace(0, len(valid) - 1, min(most, len(valid))).round().astype(int))]
    useful = shift_range(avatar.track)
    reports = []
    for index in map(int, chosen):
        mask = avatar.mask_of(index)
        assert mask is not None
        shown = edges(avatar.frames.size, mask.turn)
        left, top = shown[:2]
        picture = cut_box(avatar.frames[index], shown, mask.turn)
        x0, y0, x1, y1 = mask.box
        reports.append(
            {
                "filename": _save(picture, longest_side),
                "subfolder": "",
                "type": "temp",
                "width": picture.shape[1],
                "height": picture.shape[0],
                "frame": index,
                "box": [int(x0 - left), int(y0 - top), int(x1 - left), int(y1 - top)],
                "margin": int(y1 - avatar.track.boxes[index][3]),
                "middle": _middle(avatar, index) - top,
                "up": None if useful is None else useful.up,
                "down": None if useful is None else useful.down,
            }
        )
    return reports


def _middle(avatar: Avatar, index: int) -> int:
    """Where the middle line of the box is without a shift: landmark 29, or the box's own middle."""
    landmarks, mask = avatar.track.landmarks, avatar.mask_of(index)
    if landmarks is not None and np.isfinite(landmarks[index, 29]).all():
        point = landmarks[index, 29:30]
        turn = None if mask is None else mask.turn
        return int((point if turn is None else turn_points(point, turn))[0, 1])
    _, y0, _, y1 = avatar.track.boxes[index]
    return int(y0 + y1) // 2 - avatar.profile.bbox_shift


def _save(frame: np.ndarray, longest_side: int) -> str:
    scale = min(1.0, longest_side / max(frame.shape[:2]))
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else frame
    path = scratch_file(".jpg")
    Image.fromarray(small).save(path, quality=_QUALITY)
    return path.name
