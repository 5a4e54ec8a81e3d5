"""The 468-point face mesh reduced to the 68 iBUG points that the box rule is written for."""

from __future__ import annotations

import numpy as np

# The jaw line from ear to ear; the chin splits it into halves that are resampled at equal steps of arc
# length.
_JAW = (
    127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152,
    377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356,
)  # fmt: skip
_CHIN = _JAW.index(152)
_BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
# 27-30, between mesh points: iBUG's bridge points have no mesh point of their own.
_BRIDGE = (((168, 0.7), (6, 0.3)), ((197, 0.9), (6, 0.1)), ((5, 0.6), (195, 0.4)), ((4, 0.85), (1, 0.15)))
_NOSTRILS = (240, 97, 2, 326, 460)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_LIPS = (61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91, 78, 82, 13, 312, 308, 317, 14, 87)


def to_68(mesh: np.ndarray) -> np.ndarray:
    """Mesh points ``[468, 2 or 3]`` in pixels to iBUG landmarks float32 ``[68, 2]`` in pixels."""
    points = np.asarray(mesh, np.float32)[:, :2]
    bridge = np.stack([sum(points[i] * weight for i, weight in blend) for blend in _BRIDGE])
    parts = [_jaw(points), points[list(_BROWS)], bridge, points[list(_NOSTRILS + _EYES + _LIPS)]]
    return np.concatenate(parts).astype(np.float32)


def _jaw(points: np.ndarray) -> np.ndarray:
    """Points 0-16: eight equal steps of arc length on each side of the chin."""
    line = points[list(_JAW)]
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.concatenate([np.linspace(0, arc[_CHIN], 9), np.linspace(arc[_CHIN], arc[-1], 9)[1:]])
    return np.stack([np.interp(wanted, arc, line[:, axis]) for axis in (0, 1)], axis=1)
