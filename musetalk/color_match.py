"""Colours of a redrawn face brought to those the footage has where the two meet."""

from __future__ import annotations

import cv2
import numpy as np

# Opaque pixels this near to the mask's soft edge still count as its rim.
_REACH = 3
_FEWEST = 64
_LEAST_SPREAD, _MOST_SPREAD = 0.8, 1.25
# Pixels whose difference stands out this many median deviations (but at least this many levels) are not skin on skin:
# a beard's edge, a hand, a collar.
_OUTLIER, _TOLERANCE = 4.0, 12.0


def match_color(face: np.ndarray, footage: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give a face, per channel, the mean and spread that the footage has in the rim of the mask.

    face, footage: uint8 RGB ``[h, w, 3]`` of the same region. alpha: uint8 ``[h, w]``, its mask. The rim is where the
    mask is soft, and a few pixels further in; spreads change by a quarter at most. Returns uint8 ``[h, w, 3]``, the
    face itself where the rim is too small to tell.
    """
    chosen = _rim(alpha)
    made, filmed = face[chosen].astype(np.float32), footage[chosen].astype(np.float32)
    alike = _without_outliers(filmed - made)
    if np.count_nonzero(alike) < _FEWEST:
        return face
    made, filmed = made[alike], filmed[alike]
    spread = (filmed.std(axis=0) + 1) / (made.std(axis=0) + 1)
    gain = spread.clip(_LEAST_SPREAD, _MOST_SPREAD)
    matched = (face - made.mean(axis=0)) * gain + filmed.mean(axis=0)
    return np.rint(matched).clip(0, 255).astype(np.uint8)


def _rim(alpha: np.ndarray) -> np.ndarray:
    """bool ``[h, w]``: the soft part of a mask, whose inside may be weaker than 255 in a cross-fade."""
    inside = alpha.max()
    soft = ((alpha > 0) & (alpha < inside)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _REACH + 1, 2 * _REACH + 1))
    return (cv2.dilate(soft, kernel) > 0) & (alpha > 0)


def _without_outliers(differences: np.ndarray) -> np.ndarray:
    """bool ``[n]``: differences ``[n, 3]`` that are like the others in every channel."""
    if not len(differences):
        return np.zeros(0, bool)
    far = np.abs(differences - np.median(differences, axis=0))
    return (far <= np.maximum(_TOLERANCE, _OUTLIER * np.median(far, axis=0))).all(axis=1)
